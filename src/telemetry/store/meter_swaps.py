"""Meters that were replaced: declared on a device, by metric and instant.

A swap changes what the readings around it mean, as a late reading does. So its quarter of an hour is listed in
`late_ranges` in the same transaction: until upkeep has refreshed the cells of the counter there, answers come from the
raw rows; and where the quarter was closed already, the change is noted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg

_DECLARE = """
INSERT INTO meter_swaps AS s (device_key, domain, metric, time, start_index, final_index)
SELECT device_key, $2, $3, $4, $5, $6 FROM devices WHERE device_id = $1
ON CONFLICT (device_key, metric, time) DO UPDATE
SET domain = excluded.domain, start_index = excluded.start_index, final_index = excluded.final_index,
    declared_at = now()
WHERE (s.domain, s.start_index, s.final_index) IS DISTINCT FROM
      (excluded.domain, excluded.start_index, excluded.final_index)
RETURNING xmax = 0 AS added
"""
_WITHDRAW = """
DELETE FROM meter_swaps AS s USING devices AS d
WHERE d.device_key = s.device_key AND d.device_id = $1 AND metric = $2 AND time = $3
RETURNING s.domain
"""
_LIST = """
WITH listed AS (
    INSERT INTO late_ranges (domain, bucket) VALUES ($1, date_bin('15 minutes', $2::timestamptz, '2000-01-01 00:00+00'))
    RETURNING domain, bucket
)
INSERT INTO declared_swaps SELECT domain, bucket FROM listed
"""


@dataclass(frozen=True, slots=True)
class Swap:
    """A meter of a device was replaced.

    Attributes:
        metric: a counter of the domain.
        time: readings from then on are those of the new meter.
        start_index: what the new meter began with.
        final_index: what the old one ended with; None where that is not known.
    """

    device_id: str
    domain: str
    metric: str
    time: datetime
    start_index: float
    final_index: float | None = None


async def declare(database: asyncpg.Connection, swap: Swap) -> bool:
    """Puts a swap, in place of one of the same device, metric and instant; True where there was none.

    The device must be there.
    """
    async with database.transaction():
        values = (swap.device_id, swap.domain, swap.metric, swap.time, swap.start_index, swap.final_index)
        added = await database.fetchval(_DECLARE, *values)
        if added is not None:
            await database.execute(_LIST, swap.domain, swap.time)
    return bool(added)


async def withdraw(database: asyncpg.Connection, device_id: str, metric: str, time: datetime) -> bool:
    """Removes a swap; False where there is none."""
    async with database.transaction():
        domain = await database.fetchval(_WITHDRAW, device_id, metric, time)
        if domain is not None:
            await database.execute(_LIST, domain, time)
    return domain is not None
