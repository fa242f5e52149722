"""The meter swaps of a device, as they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from telemetry.query.database import Connection

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


async def swaps(
    connection: Connection, device_id: str, metric: str | None = None, time: datetime | None = None
) -> list[Declared]:
    """The swaps of a device in order of metric and time; only those of one metric and instant, if these are named."""
    return [Declared(*row) for row in await connection.fetch(_SWAPS, device_id, metric, time)]
