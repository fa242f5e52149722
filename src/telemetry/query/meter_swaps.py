"""The meter swaps of a device, as they are asked for, and the readings that they must agree with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from telemetry.query.database import Connection
from telemetry.query.instants import EARLIEST, LATEST
from telemetry.query.sql import identifier
from telemetry.query.widening import widening
from telemetry.spans import Span

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


_BETWEEN = """
SELECT d.device_key, max(s.time) FILTER (WHERE s.time < $3), min(s.time) FILTER (WHERE s.time > $3)
FROM devices AS d LEFT JOIN meter_swaps AS s ON s.device_key = d.device_key AND s.metric = $2
WHERE d.device_id = $1
GROUP BY d.device_key
"""
_NEAREST = """
SELECT r.time, r.{metric} FROM {readings} AS r
WHERE r.device_key = $1 AND r.{metric} IS NOT NULL AND r.time >= $2 AND r.time < $3
ORDER BY r.time {order} LIMIT 1
"""
Index: TypeAlias = tuple[datetime, float]


async def indexes_around(
    connection: Connection, device_id: str, domain: str, metric: str, time: datetime
) -> tuple[Index | None, Index | None]:
    """The last reading of the meter that was replaced at that instant, and the first of the one that replaced it.

    Other swaps end the search: beyond them, readings are those of yet other meters.
    """
    found = await connection.fetchrow(_BETWEEN, device_id, metric, time)
    if found is None:
        return None, None
    device_key, since, until = found

    async def one(span: Span, order: str) -> Index | None:
        sql = _NEAREST.format(metric=identifier(metric), readings=identifier(f"{domain}_readings"), order=order)
        for stretch in widening(span, backwards=order == "DESC"):
            if row := await connection.fetchrow(sql, device_key, *stretch):
                return row[0], row[1]
        return None

    return await one((since or EARLIEST, time), "DESC"), await one((time, until or LATEST), "ASC")


async def swaps(
    connection: Connection, device_id: str, metric: str | None = None, time: datetime | None = None
) -> list[Declared]:
    """The swaps of a device in order of metric and time; only those of one metric and instant, if these are named."""
    return [Declared(*row) for row in await connection.fetch(_SWAPS, device_id, metric, time)]
