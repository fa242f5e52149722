"""Keeping the cells of counters right, from which `increase` and `rate` are answered; see migration `0030_counters`.

Whoever takes quarters of an hour off `late_ranges` must have refreshed the cells over them. A release that knew no
cells did not, and may have led the upkeep in between. So coverage carries the stamp of the round that kept it: where
that is not the stamp of `closings`, the cells are not believed, and coverage begins anew with the present. Upkeep then
extends it back in time, a day in each round.
"""

# ruff: noqa: S608 - domains are our own, values are parameters

from __future__ import annotations

from datetime import datetime

import asyncpg

from telemetry.spans import LONGEST_DAY
from telemetry.upkeep.cells import Cells

_RESTART = """
UPDATE counter_coverage AS c
SET former_from = least(former_from, covered_from),
    covered_from = greatest(
    date_bin('15 minutes', $2::timestamptz, '2000-01-01 00:00+00') + interval '15 minutes',
    (SELECT closed_until FROM closings WHERE domain = $1))
WHERE domain = $1
  AND (covered_from = 'infinity' OR noted_at IS DISTINCT FROM (SELECT noted_at FROM closings WHERE domain = $1))
"""
_COVER = "UPDATE counter_coverage SET noted_at = (SELECT noted_at FROM closings WHERE domain = $1) WHERE domain = $1"
_COVERED = """
SELECT covered_from, nullif(telemetry_raw_from(domain), '-infinity') FROM counter_coverage
WHERE domain = $1 AND isfinite(covered_from) AND covered_from > least(former_from, telemetry_raw_from(domain))
"""
_EXTEND = """
UPDATE counter_coverage
SET covered_from = CASE
    WHEN $2 <= telemetry_raw_from(domain) THEN least($2, former_from)
    ELSE coalesce($2, '-infinity'::timestamptz)
END
WHERE domain = $1
"""


async def refresh(database: asyncpg.Connection, domain: str, cells: Cells, closed: datetime) -> None:
    """Refreshes the cells around quarters that were taken off `late_ranges`; to be called in that transaction.

    Args:
        closed: no quarter that starts later was ever taken.
    """
    await database.execute(_RESTART, domain, closed)
    for width, spans in cells.levels():
        for start, end in spans:
            await database.execute("CALL telemetry_refresh_counter_level($1, $2, $3, $4)", domain, width, start, end)


async def cover(database: asyncpg.Connection, domain: str) -> None:
    """Vouches for the cells; to be called in the transaction of `refresh`, after the round was stamped."""
    await database.execute(_COVER, domain)


async def extend(database: asyncpg.Connection, domain: str) -> bool:
    """Covers one more day back in time that has readings; False where nothing is left to cover.

    Cells that are older than the raw readings cannot be made anew. They are as they were, and covered as far as they
    were before coverage began anew.
    """
    async with database.transaction():
        row = await database.fetchrow(_COVERED, domain)
        if row is None:
            return False
        covered, raw_from = row
        # The day of the readings before, in the daily roll-up: raw rows have no index by time.
        day = await database.fetchval(f'SELECT max(bucket) FROM "{domain}_1d" WHERE bucket < $1', covered)
        if day is not None:
            end = min(covered, day + LONGEST_DAY)
            day = day if raw_from is None else max(day, min(raw_from, covered))
            if day < end:
                await database.execute("CALL telemetry_refresh_counters($1, $2, $3)", domain, day, end)
        await database.execute(_EXTEND, domain, day)
    return day is not None
