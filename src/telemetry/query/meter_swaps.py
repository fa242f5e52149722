"""The meter swaps of a device, as they are asked for, and the readings that they must agree with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from telemetry.query.database import Connection
from telemetry.query.sql import identifier

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


_LAST = """
SELECT r.time, r.{metric} FROM {readings} AS r JOIN devices AS d USING (device_key)
WHERE d.device_id = $1 AND r.{metric} IS NOT NULL AND r.time < $3 AND r.time >= (
    SELECT coalesce(max(s.time), '-infinity') FROM meter_swaps AS s
    WHERE s.device_key = d.device_key AND s.metric = $2 AND s.time < $3
)
ORDER BY r.time DESC LIMIT 1
"""
_FIRST = """
SELECT r.time, r.{metric} FROM {readings} AS r JOIN devices AS d USING (device_key)
WHERE d.device_id = $1 AND r.{metric} IS NOT NULL AND r.time >= $3 AND r.time < (
    SELECT coalesce(min(s.time), 'infinity') FROM meter_swaps AS s
    WHERE s.device_key = d.device_key AND s.metric = $2 AND s.time > $3
)
ORDER BY r.time LIMIT 1
"""

Index: TypeAlias = tuple[datetime, float]


async def indexes_around(
    connection: Connection, device_id: str, domain: str, metric: str, time: datetime
) -> tuple[Index | None, Index | None]:
    """The last reading of the meter that was replaced at that instant, and the first of the one that replaced it.

    Other swaps end the search: beyond them, readings are those of yet other meters.
    """

    async def one(sql: str) -> Index | None:
        named = sql.format(metric=identifier(metric), readings=identifier(f"{domain}_readings"))
        found = await connection.fetchrow(named, device_id, metric, time)
        return None if found is None else (found[0], found[1])

    return await one(_LAST), await one(_FIRST)


async def swaps(
    connection: Connection, device_id: str, metric: str | None = None, time: datetime | None = None
) -> list[Declared]:
    """The swaps of a device in order of metric and time; only those of one metric and instant, if these are named."""
    return [Declared(*row) for row in await connection.fetch(_SWAPS, device_id, metric, time)]
