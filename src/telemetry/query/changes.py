"""Which closed buckets changed, for whoever has already billed on them.

Upkeep notes changes by quarters of an hour (`store.changes`); a bucket changed when one of its quarters did after the
bucket was closed. What is noted up to the last visible round is complete, so that is the instant to go on from.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from telemetry.errors import InvalidQuery
from telemetry.query.calendar import WINDOWS, Window, bucket_edges, parse_window
from telemetry.query.database import Connection

QUARTER = timedelta(minutes=15)
ALLOWED = WINDOWS[WINDOWS.index("15m") :]
_AHEAD = timedelta(days=1)
"""How far edges are laid at a time."""

_CLOSING = "SELECT first_until, closed_until, noted_at FROM closings WHERE domain = $1"
_QUARTERS = """
SELECT quarter, closed_until, min(noted_at), max(noted_at), count(*), coalesce(sum(late), 0)::bigint,
       bool_and(late IS NOT NULL), sum(merged)::bigint, sum(swaps)::bigint
FROM changes
WHERE domain = $1 AND noted_at > $2 AND noted_at <= $3
GROUP BY quarter, closed_until
ORDER BY quarter, closed_until
"""


@dataclass(frozen=True, slots=True)
class Closing:
    """How far a domain is closed.

    Attributes:
        first_until: where closing began; of changes before it, it may not be known how many readings were late.
        closed_until: what ends at or before it is closed.
        noted_at: every change that could be seen then is noted.
    """

    first_until: datetime
    closed_until: datetime
    noted_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """What changed in a quarter of an hour, or in a bucket.

    Attributes:
        start: of the quarter or the bucket.
        closed_until: how far the domain was closed before.
        first, last: when it was noted.
        changes: how often a quarter changed.
        late: readings that were added.
        is_counted: whether these are all of them.
        merged: readings that were completed.
        swaps: meter swaps that were declared, changed or withdrawn.
    """

    start: datetime
    closed_until: datetime
    first: datetime
    last: datetime
    changes: int
    late: int
    is_counted: bool
    merged: int
    swaps: int = 0

    def __add__(self, other: Change) -> Change:
        """Both together."""
        return replace(
            self,
            first=min(self.first, other.first),
            last=max(self.last, other.last),
            changes=self.changes + other.changes,
            late=self.late + other.late,
            is_counted=self.is_counted and other.is_counted,
            merged=self.merged + other.merged,
            swaps=self.swaps + other.swaps,
        )


async def closing(connection: Connection, domain: str) -> Closing | None:
    """How far the domain is closed; None before the first round of upkeep."""
    row = await connection.fetchrow(_CLOSING, domain)
    return None if row is None else Closing(*row)


async def changed_quarters(connection: Connection, domain: str, since: datetime, until: datetime) -> list[Change]:
    """What was noted in `(since, until]`, in order of the quarters; one that changed for long has several rows."""
    return [Change(*row) for row in await connection.fetch(_QUARTERS, domain, since, until)]


def changed_buckets(quarters: Iterable[Change], window: Window, zone: ZoneInfo) -> list[Change]:
    """The buckets that were closed when a quarter that they hold, or hold a part of, changed; in rising order."""
    found: dict[datetime, Change] = {}
    edges: Sequence[datetime] = ()
    for quarter in quarters:
        end = quarter.start + QUARTER
        if not edges or edges[-1] < end:
            edges = bucket_edges(window, quarter.start, quarter.start + _AHEAD, zone)
        touched = edges[bisect_right(edges, quarter.start) - 1 :]
        for start, following in pairwise(touched):
            if start >= end:
                break
            if following <= quarter.closed_until:
                change = replace(quarter, start=start)
                found[start] = found[start] + change if start in found else change
    return [found[start] for start in sorted(found)]


def parse_changes_window(text: str) -> Window:
    """A window of at least a quarter of an hour.

    Raises:
        InvalidQuery: it is none, or it is not known what changed in its buckets.
    """
    window = parse_window(text)
    if window.nominal < QUARTER:
        raise InvalidQuery("window", text, "is finer than the quarters of an hour that changes are noted by", ALLOWED)
    return window
