"""The meter swaps of a device, as they are asked for, and the readings that they must agree with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from telemetry.query.database import Connection
from telemetry.query.sql import identifier
from telemetry.query.unrolled import DAY_OF_READINGS, few, listed
from telemetry.spans import Span, of_quarters

_SWAPS = """
SELECT s.domain, metric, time, start_index, final_index, declared_at
FROM meter_swaps AS s JOIN devices USING (device_key)
WHERE device_id = $1 AND ($2::text IS NULL OR metric = $2) AND ($3::timestamptz IS NULL OR time = $3)
ORDER BY metric COLLATE "C", time
"""


@dataclass(frozen=True, slots=True)
class Declared:
    """A meter swap as it was declared; see the table `meter_swaps`."""

    domain: str
    metric: str
    time: datetime
    start_index: float
    final_index: float | None
    declared_at: datetime


_BORDERS = """
SELECT device_key, max(time) FILTER (WHERE time < $3), min(time) FILTER (WHERE time > $3)
FROM devices LEFT JOIN (SELECT * FROM meter_swaps WHERE metric = $2) AS s USING (device_key)
WHERE device_id = $1
GROUP BY device_key
"""
_DAYS = """
SELECT bucket FROM {roll_up}
WHERE device_key = $1 AND {count} > 0 AND bucket {side} $2
ORDER BY bucket {order} LIMIT $3
"""
_INDEX = """
SELECT time, {metric} FROM {readings}
WHERE device_key = $1 AND {metric} IS NOT NULL AND time >= $2 AND time < $3
ORDER BY time {order} LIMIT 1
"""
_DAYS_ENOUGH = 3
"""Days of the roll-up next to an instant among which one has the reading next to it, if any has: the readings of the
first two may lie on the instant's other side."""

Index: TypeAlias = tuple[datetime, float]


async def indexes_around(
    connection: Connection, device_id: str, domain: str, metric: str, time: datetime
) -> tuple[Index | None, Index | None]:
    """The last reading of the meter that was replaced at that instant, and the first of the one that replaced it.

    Other swaps end the search: beyond them, readings are those of yet other meters.
    """
    row = await connection.fetchrow(_BORDERS, device_id, metric, time)
    if row is None:
        return None, None
    device_key, since, until = row
    quarters, _ = await listed(connection, [domain])
    late = of_quarters(quarters.get(domain, ()))
    names = {"metric": identifier(metric), "count": identifier(f"{metric}_count")}
    names |= {"readings": identifier(f"{domain}_readings"), "roll_up": identifier(f"{domain}_1d")}

    async def spans(side: str, order: str, edge: datetime) -> list[Span]:
        days = await connection.fetch(_DAYS.format(**names, side=side, order=order), device_key, edge, _DAYS_ENOUGH)
        return few([*late, *((day, day + DAY_OF_READINGS) for (day,) in days)])

    async def first_of(order: str, spans: Iterable[Span]) -> Index | None:
        for start, end in spans:
            found = await connection.fetchrow(_INDEX.format(**names, order=order), device_key, start, end)
            if found is not None:
                return found[0], found[1]
        return None

    before = [(max(start, since or start), min(end, time)) for start, end in await spans("<", "DESC", time)]
    after = [
        (max(start, time), min(end, until or end)) for start, end in await spans(">", "ASC", time - DAY_OF_READINGS)
    ]
    return (
        await first_of("DESC", reversed([span for span in before if span[0] < span[1]])),
        await first_of("ASC", [span for span in after if span[0] < span[1]]),
    )


async def swaps(
    connection: Connection, device_id: str, metric: str | None = None, time: datetime | None = None
) -> list[Declared]:
    """The swaps of a device in order of metric and time; only those of one metric and instant, if these are named."""
    return [Declared(*row) for row in await connection.fetch(_SWAPS, device_id, metric, time)]
