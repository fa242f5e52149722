"""Partitions of the plain engine that are too old: dropped without stopping anybody.

`DROP TABLE` of a partition locks the whole table against everybody. Where a question runs, it waits for it, and
whatever comes later waits behind it, ingest's COPY above all. So a partition is detached concurrently first, which only
waits for those who may still be reading it, and lets everybody else pass. Whoever reads for long is not waited for
either: what is not done within seconds is gone on with in a later round.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import asyncpg
import structlog

log = structlog.get_logger()

_PATIENCE: Final = "2s"
_MARK: Final = "Readings older than retention.readings; telemetry maintain drops this table"
"""Tells tables that were detached to be dropped from those that somebody detached to keep them."""


async def drop_partitions(database: asyncpg.Connection, domain: str, before: datetime) -> list[str]:
    """Drops the partitions that ended before the instant, as far as nobody reads them; returns their names.

    None is dropped while a reading of that time is not in the roll-ups. To be called outside a transaction. It may be
    interrupted anywhere: the next call goes on.
    """
    expired = await database.fetch("SELECT * FROM telemetry_expired_partitions($1, $2, $3)", domain, before, _MARK)
    if not expired:
        return []
    dropped: list[str] = []
    await database.execute(f"SET lock_timeout = '{_PATIENCE}'")
    try:
        # In a transaction of its own: batches wait for its end.
        if not await database.fetchval("SELECT telemetry_forget_raw($1, $2)", domain, expired[-1]["ends"]):
            expired = []
        for name, _, state in expired:
            await _drop(database, f"{domain}_readings", name, state)
            dropped.append(name)
    except asyncpg.LockNotAvailableError:
        log.info(
            "partition_in_use",
            detail="Somebody reads for long; partitions that are due are dropped in a later round.",
            domain=domain,
            left=len(expired) - len(dropped),
        )
    await database.execute("RESET lock_timeout")
    return dropped


async def _drop(database: asyncpg.Connection, table: str, partition: str, state: str) -> None:
    if state == "attached":
        await database.execute(f"COMMENT ON TABLE \"{partition}\" IS '{_MARK}'")
        await _detach(database, table, partition)
    elif state == "detaching":
        await database.execute(f'ALTER TABLE "{table}" DETACH PARTITION "{partition}" FINALIZE')
    await database.execute(f'DROP TABLE "{partition}"')


async def _detach(database: asyncpg.Connection, table: str, partition: str) -> None:
    # Beside a default partition, which somebody has added, PostgreSQL detaches none concurrently.
    beside_default = await database.fetchval(
        "SELECT partdefid <> 0 FROM pg_partitioned_table WHERE partrelid = $1::text::regclass", table
    )
    way = "" if beside_default else "CONCURRENTLY"
    await database.execute(f'ALTER TABLE "{table}" DETACH PARTITION "{partition}" {way}')
