"""The table of the devices' clocks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

import asyncpg

from telemetry.store.copy import PATIENCE_S
from telemetry.store.layout import EPOCH, SECOND_US

_SAVE = """
INSERT INTO device_clocks (device_id, skew_s, seen_at)
SELECT DISTINCT ON (device_id) device_id, skew_s, seen_at
FROM (
    SELECT coalesce(c.device_id, d.device_id) AS device_id, skew_s, seen_at
    FROM unnest($1::int[], $2::text[], $3::float8[], $4::timestamptz[]) AS c (device_key, device_id, skew_s, seen_at)
    LEFT JOIN devices AS d USING (device_key)
) AS named
WHERE device_id IS NOT NULL
ORDER BY device_id, seen_at DESC
ON CONFLICT (device_id) DO UPDATE SET skew_s = excluded.skew_s, seen_at = excluded.seen_at
WHERE excluded.seen_at >= device_clocks.seen_at
"""
"""Sorted by id, so that two workers take the row locks in the same order."""


class Clock(NamedTuple):
    """How far a clock is off.

    Attributes:
        device: its key, or its id where it may not be registered.
        skew_us: positive is ahead of ours.
        seen_us: receipt of the newest reading that was looked at, µs since 1970.
    """

    device: int | str
    skew_us: int
    seen_us: int


async def save(database: asyncpg.Connection, clocks: Sequence[Clock]) -> None:
    """Writes what is newer than what the table has; may be repeated."""
    await database.execute(
        _SAVE,
        [clock.device if isinstance(clock.device, int) else None for clock in clocks],
        [clock.device if isinstance(clock.device, str) else None for clock in clocks],
        [round(clock.skew_us / SECOND_US, 3) for clock in clocks],
        [EPOCH + timedelta(microseconds=clock.seen_us) for clock in clocks],
        timeout=PATIENCE_S,
    )
