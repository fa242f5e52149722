"""What a question costs, in rows that its statements read, estimated before they run.

The database tells about how many rows each day (or each part) of a relation holds, from its catalog alone. A statement
reads the part of them that lies in its spans, in proportion to time; of chosen devices, in proportion to how often they
send. A roll-up has at most one row for each device and cell.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from telemetry.errors import TooLarge
from telemetry.query.aggregates import Family
from telemetry.query.database import Connection
from telemetry.query.plan import Plan
from telemetry.query.question import By
from telemetry.spans import QUARTER, Span

KEPT_S = 60.0
"""Seconds for which what the database told of its sizes is believed."""

_CELLS = {"15m": QUARTER, "1h": timedelta(hours=1), "1d": timedelta(days=1)}
_PARTS = "SELECT relation, starts, ends, rows FROM telemetry_row_estimates($1)"
_DEVICES = """
SELECT count(*) AS devices, count(interval_s) AS known, coalesce(sum(1 / interval_s), 0) AS per_second
FROM devices WHERE CASE WHEN $2::int[] IS NULL THEN domain = $1 ELSE device_key = ANY ($2) END
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Estimates of rows.

    Attributes:
        segments: read in each segment of the plan, in order.
        changes: read in each segment of the plan's `changes`, in order; empty where these are not asked for.
        beyond: read from raw rows by aggregates of the families `spread` and `time`.
        again: read by a second look at the segments, for coverage.
        limit: as many as a question may read.
    """

    segments: tuple[int, ...]
    changes: tuple[int, ...]
    beyond: int
    again: int
    limit: int

    @property
    def rows(self) -> int:
        """All together."""
        return sum(self.segments) + sum(self.changes) + self.beyond + self.again


@dataclass(frozen=True, slots=True)
class Fleet:
    """Some devices: how many, of how many the interval is known, and what these send per second together."""

    devices: int
    known: int
    per_second: float

    def weight(self, typical: float) -> float:
        """What they send per second, where a device of unknown interval sends as much as is typical."""
        return self.per_second + (self.devices - self.known) * typical


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the database tells of a domain.

    Attributes:
        parts: by relation; the span is None where the part holds the rows of all times.
        fleet: the devices at home in the domain.
    """

    parts: Mapping[str, Sequence[tuple[Span | None, float]]]
    fleet: Fleet

    def rows(self, relation: str, spans: Sequence[Span], chosen: Fleet | None, now: datetime) -> int:
        """About the rows that a relation has in the spans, of the chosen devices or of all."""
        # The cells of counters are those of the roll-up of the same width.
        relation = relation.removeprefix("counters_")
        shares = [(_overlap(part, spans, now), rows) for part, rows in self.parts.get(relation, ())]
        if relation in _CELLS:
            # Their parts are long and may be filled in part only; the number of cells says more.
            found = sum(rows for share, rows in shares if share)
            devices = self.fleet.devices if chosen is None else chosen.devices
            length = sum((end - start for start, end in spans), timedelta(0))
            return round(min(found, devices * (length / _CELLS[relation])))
        found = sum(rows * share for share, rows in shares)
        return round(found * (1.0 if chosen is None else self._share(chosen)))

    def _share(self, chosen: Fleet) -> float:
        typical = self.fleet.per_second / self.fleet.known if self.fleet.known else 1.0
        whole = self.fleet.weight(typical)
        return min(1.0, chosen.weight(typical) / whole) if whole else 1.0


@dataclass
class Sizing:
    """Asks for the sizes of domains, and remembers them for a while: most questions cost no look of their own."""

    _known: dict[str, tuple[float, Sizes]] = field(default_factory=dict)

    async def of(self, connection: Connection, domain: str) -> Sizes:
        """The sizes of a domain."""
        found = self._known.get(domain)
        if found is None or time.monotonic() > found[0]:
            parts = defaultdict(list)
            for relation, start, end, rows in await connection.fetch(_PARTS, domain):
                parts[relation].append((None if start is None else (start, end), rows))
            found = time.monotonic() + KEPT_S, Sizes(parts, await fleet(connection, domain, None))
            self._known[domain] = found
        return found[1]


async def fleet(connection: Connection, domain: str, device_keys: Sequence[int] | None) -> Fleet:
    """The devices of these keys; None for those at home in the domain."""
    row = await connection.fetchrow(_DEVICES, domain, None if device_keys is None else list(device_keys))
    assert row is not None
    return Fleet(row["devices"], row["known"], row["per_second"])


@dataclass(frozen=True, slots=True)
class Bound:
    """How many rows a question may read.

    Attributes:
        precise: the figure will be shown; otherwise the chosen devices are looked up only where all would be too many.
    """

    sizing: Sizing
    max_rows: int
    precise: bool = False

    async def check(self, connection: Connection, plan: Plan, device_keys: Sequence[int] | None) -> Cost:
        """What a plan costs.

        Raises:
            TooLarge: more than the bound.
        """
        domain = plan.question.domain.name
        sizes = await self.sizing.of(connection, domain)
        cost = estimate(plan, sizes, None, self.max_rows)
        if device_keys is not None and (self.precise or cost.rows > self.max_rows):
            cost = estimate(plan, sizes, await fleet(connection, domain, device_keys), self.max_rows)
        if cost.rows > self.max_rows:
            raise _too_many(cost)
        return cost


def estimate(plan: Plan, sizes: Sizes, chosen: Fleet | None, limit: int) -> Cost:
    """What the statements of a plan read, each row as often as it is read."""
    question, now = plan.question, plan.question.now
    segments = tuple(sizes.rows(each.relation, each.spans, chosen, now) for each in plan.segments)
    counters = len(question.chosen(Family.CHANGE))
    changes = [counters * sizes.rows(each.relation, each.spans, chosen, now) for each in plan.changes if counters]
    scans = bool(question.chosen(Family.SPREAD)) + len(question.chosen(Family.TIME))
    again = sum(segments) if question.coverage and question.by is not By.DEVICE else 0
    raw = sizes.rows("readings", [(question.start, question.end)], chosen, now) if scans else 0
    return Cost(segments, tuple(changes), scans * raw, again, limit)


def _overlap(part: Span | None, spans: Iterable[Span], now: datetime) -> float:
    """The share of a part that lies in the spans; of the part that is being filled, as far as it is."""
    if part is None:
        return 1.0
    first, last = part[0], min(part[1], now) if part[0] < now else part[1]
    return sum(_seconds(max(start, first), min(end, last)) for start, end in spans) / _seconds(first, last)


def _seconds(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds())


def _too_many(cost: Cost) -> TooLarge:
    return TooLarge(
        "start",
        f"about {cost.rows:,} rows",
        f"the question would read about {cost.rows:,} rows, and {cost.limit:,} are allowed (api.max_rows_read); ask "
        "for a shorter range, fewer devices or metrics, or avg, min, max, sum, count, increase or rate in windows of "
        "whole hours or days, which roll-ups answer",
        cost.rows,
        cost.limit,
    )
