"""The record of what changed in closed quarters of an hour, for whoever has already billed on them.

What is closed is decided by commits, never by comparing clocks. Each round of upkeep takes quarters off `late_ranges`
and, in the same transaction, says how far the domain is closed and how many readings each of those quarters has.
Whoever reads in a snapshot that a quarter is closed has read all that it had then; a row that commits later is listed
anew, and a later round finds that there are more. A listed quarter that has no more, and no completed ones, had
duplicates only. Meter swaps list their quarters, too, and are noted beside the readings.

A round's `noted_at` is taken after all that it notes was committed, and rounds commit one after the other. So what
was not visible at an instant is noted after it, and what is noted up to the last visible `noted_at` is visible.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import asyncpg

from telemetry.store.layout import EPOCH, MICROSECOND, QUARTER_US

_CLOSE = """
INSERT INTO closings (domain, first_until, closed_until, noted_at) VALUES ($1, $2, $2, clock_timestamp())
ON CONFLICT (domain) DO UPDATE
SET closed_until = greatest(closings.closed_until, excluded.closed_until),
    -- Later than the round before, even where somebody has put the clock back.
    noted_at = greatest(closings.noted_at + interval '1 microsecond', excluded.noted_at)
"""
_NOTE = """
WITH closing AS (
    SELECT first_until, closed_until FROM closings WHERE domain = $1
), completed AS (
    DELETE FROM completed_readings WHERE domain = $1 AND quarter = ANY ($3::timestamptz[]) RETURNING quarter, readings
), declared AS (
    DELETE FROM declared_swaps WHERE domain = $1 AND quarter = ANY ($3::timestamptz[]) RETURNING quarter
), found AS (
    SELECT quarter, coalesce(r.readings, 0)::bigint AS readings, coalesce(c.merged, 0)::bigint AS merged,
           coalesce(s.swaps, 0) AS swaps
    FROM unnest($3::timestamptz[]) AS q (quarter)
    LEFT JOIN (
        SELECT bucket AS quarter, sum(samples) AS readings FROM "{domain}_15m"
        -- Without the ends, a real-time roll-up would look into every day that there is.
        WHERE bucket = ANY ($3) AND bucket >= $4 AND bucket <= $5 GROUP BY bucket
    ) AS r USING (quarter)
    LEFT JOIN (SELECT quarter, sum(readings) AS merged FROM completed GROUP BY quarter) AS c USING (quarter)
    LEFT JOIN (SELECT quarter, count(*) AS swaps FROM declared GROUP BY quarter) AS s USING (quarter)
), compared AS (
    SELECT f.quarter, f.merged, f.swaps, closed_until,
           f.readings - CASE WHEN f.quarter < first_until THEN b.readings ELSE coalesce(b.readings, 0) END AS late
    FROM found AS f
    JOIN closing ON f.quarter + interval '15 minutes' <= closed_until
    LEFT JOIN closed_quarters AS b ON b.domain = $1 AND b.quarter = f.quarter
), counted AS (
    INSERT INTO closed_quarters (domain, quarter, readings)
    SELECT $1, quarter, readings FROM found WHERE readings > 0
    ON CONFLICT (domain, quarter) DO UPDATE SET readings = excluded.readings
), noted AS (
    {close} RETURNING noted_at
)
INSERT INTO changes (domain, quarter, closed_until, noted_at, late, merged, swaps)
SELECT $1, quarter, closed_until, noted_at, late, merged, swaps FROM compared CROSS JOIN noted
WHERE late IS DISTINCT FROM 0 OR merged > 0 OR swaps > 0
ORDER BY quarter
"""
_FORGET = (
    "DELETE FROM changes WHERE noted_at < $1",
    "DELETE FROM closed_quarters WHERE quarter < $1",
)


async def note(
    database: asyncpg.Connection, domain: str, quarters: Collection[datetime], closed_until: datetime
) -> None:
    """Notes what changed in quarters that were closed, and that the domain is closed up to an instant.

    To be called in the transaction that takes the quarters off `late_ranges`, after their roll-ups were refreshed.

    Args:
        quarters: those taken off the list, each once.
        closed_until: every listed quarter that ends at or before it is among them.
    """
    if not quarters:
        await database.execute(_CLOSE, domain, closed_until)
        return
    statement = _NOTE.format(domain=domain, close=_CLOSE)
    await database.execute(statement, domain, closed_until, sorted(quarters), min(quarters), max(quarters))


async def forget(database: asyncpg.Connection, before: datetime) -> None:
    """Deletes what is older than the readings that are kept."""
    for statement in _FORGET:
        await database.execute(statement, before)


def closed_before(now: datetime, closes_after: timedelta) -> datetime:
    """The end of the newest quarter of an hour that is to be closed at an instant."""
    since_epoch = (now - closes_after - EPOCH) // MICROSECOND
    return EPOCH + since_epoch // QUARTER_US * QUARTER_US * MICROSECOND
