"""The cells of roll-ups around quarters of an hour: the hours, and the days that are made of these hours.

Each level is refreshed from the one below, and each cell once, however many of its quarters are to be refreshed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg

from telemetry.spans import QUARTER, Span, joined, of_quarters

HOUR = timedelta(hours=1)

Level = tuple[str, list[Span]]
"""A width (`15m`, `1h`, `1d`), and cells of it that follow each other in time, neighbours joined."""


@dataclass(frozen=True)
class Cells:
    """The cells around some quarters, each once.

    Attributes:
        zone: whose days they are.
    """

    quarters: Sequence[datetime]
    zone: ZoneInfo

    @classmethod
    async def around(cls, database: asyncpg.Connection, domain: str, quarters: Iterable[datetime]) -> Cells:
        """The cells around those quarters of which all raw readings are kept: others can never be made anew."""
        zone = ZoneInfo(await database.fetchval("SELECT value FROM telemetry_meta WHERE key = 'timezone'"))
        since = await raw_from(database, domain)
        return cls(sorted(quarter for quarter in set(quarters) if since is None or quarter >= since), zone)

    def levels(self, until: datetime | None = None) -> Iterator[Level]:
        """From the narrowest to the widest; none that ends after the instant."""
        quarters = [(quarter, quarter + QUARTER) for quarter in self.quarters]
        hours = _hours(of_quarters(self.quarters))
        days = _days(joined(hours), self.zone)
        for width, cells in (("15m", quarters), ("1h", hours), ("1d", days)):
            yield width, joined(cell for cell in cells if until is None or cell[1] <= until)


async def raw_from(database: asyncpg.Connection, domain: str) -> datetime | None:
    """The instant from which on every raw reading of a domain is kept; None where none was ever dropped."""
    found: datetime | None = await database.fetchval("SELECT nullif(telemetry_raw_from($1), '-infinity')", domain)
    return found


def _hours(spans: Iterable[Span]) -> list[Span]:
    found = []
    for start, end in spans:
        hour = start.replace(minute=0, second=0, microsecond=0)
        while hour < end:
            found.append((hour, hour + HOUR))
            hour += HOUR
    return found


def _days(spans: Iterable[Span], zone: ZoneInfo) -> list[Span]:
    """The days that hours lie in. Where midnight is no whole hour of UTC, an hour may lie in two."""
    found = []
    for start, end in spans:
        day, last = start.astimezone(zone).date(), (end - QUARTER).astimezone(zone).date()
        while day <= last:
            midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
            day += timedelta(days=1)
            next_midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
            found.append((midnight.astimezone(UTC), next_midnight.astimezone(UTC)))
    return found
