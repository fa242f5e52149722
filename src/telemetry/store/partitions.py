"""Partitions of the plain engine that are too old: dropped without stopping anybody.

`DROP TABLE` of a partition locks the whole table against everybody. Where a question runs, it waits for it, and
whatever comes later waits behind it, ingest's COPY above all. So a partition is detached concurrently first, which only
waits for those who may still be reading it, and lets everybody else pass. With a short `lock_timeout`, whoever reads
for long is not waited for either: what is not done within seconds is gone on with in a later round.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import asyncpg

_MARK: Final = "Readings older than retention.readings; telemetry maintain drops this table"
"""Tells tables that were detached to be dropped from those that somebody detached to keep them."""


async def drop_partitions(database: asyncpg.Connection, domain: str, before: datetime) -> list[str]:
    """Drops the partitions that ended before the instant; returns their names.

    To be called outside a transaction. It may be interrupted anywhere: the next call goes on.
    """
    expired = await database.fetch("SELECT * FROM telemetry_expired_partitions($1, $2, $3)", domain, before, _MARK)
    for name, _, state in expired:
        await _drop(database, f"{domain}_readings", name, state)
    return [row["name"] for row in expired]


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
