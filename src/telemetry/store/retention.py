"""Dropping raw readings that are old enough, a partition at a time, and saying so in `kept_readings`.

A question sees the state of its snapshot, but no partition that was dropped since. So a round of upkeep announces up to
where it will drop, and a later one drops, once no question runs that has not seen the announcement.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import asyncpg

NOTICE = timedelta(minutes=5)
"""From the announcement to the drop: longer than the statements of a question take one after the other."""

_ANNOUNCE = """
SELECT telemetry_keep_from($1, due) FROM (SELECT max(ends) AS due FROM telemetry_due_partitions($1, $2)) AS found
WHERE due IS NOT NULL
"""
_ANNOUNCED = "SELECT kept_from FROM kept_readings WHERE domain = $1 AND announced_at <= $2"


async def drop(database: asyncpg.Connection, domain: str, before: datetime, now: datetime) -> list[str]:
    """Drops what was announced long enough ago, and announces what ended before an instant.

    Returns:
        The names of what was dropped.
    """
    dropped: list[asyncpg.Record] = []
    kept_from = await database.fetchval(_ANNOUNCED, domain, now - NOTICE)
    if kept_from is not None:
        # Also what was put back since then, for questions take it for gone.
        dropped = await database.fetch("SELECT telemetry_drop_partitions($1, $2) AS name", domain, kept_from)
    await database.execute(_ANNOUNCE, domain, before)
    return [row["name"] for row in dropped]
