"""Dropping raw readings that are old enough, a partition at a time, and saying so in `kept_readings`.

A question sees the state of its snapshot, but no partition that was dropped since. So a round of upkeep announces up to
where it will drop, and a later one drops, once no question of the API runs that began before the announcement or soon
after it, however long it takes. That is seen of an API that has our database user, or where ours may read the
activity of others (`pg_read_all_stats`); beside any other one, only the time of the notice is waited for. From the
announcement on, ingest refuses what is older; and nothing is announced before all of it is in the roll-ups.

On the plain engine nobody is stopped by it. `DROP TABLE` of a partition locks the whole table against everybody. Where
a question runs, it waits for it, and whatever comes later waits behind it, ingest's COPY above all. So a partition is
detached concurrently first, which only waits for those who may still be reading it, and lets everybody else pass. With
a short `lock_timeout`, whoever reads for long is not waited for either: what is not done within seconds is gone on with
in a later round.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

import asyncpg
import structlog

from telemetry.store.engine import Engine
from telemetry.store.pool import APPLICATION, ASKING

log = structlog.get_logger()

NOTICE = timedelta(minutes=5)
"""From the announcement to the drop, at the least; a question that began within that time is waited for, because the
announcement may have been committed after it began."""

_QUESTIONS: Final = f"{APPLICATION} {ASKING}"
_PATIENCE: Final = "2s"
"""For a lock. Whoever reads for long is not waited for, because whatever comes later waits behind the one who waits."""

_MARK: Final = "Readings older than retention.readings; telemetry maintain drops this table"
"""Tells tables that were detached to be dropped from those that somebody detached to keep them."""

_DUE = """
SELECT max(ends) FROM telemetry_due_partitions($1, $2)
HAVING max(ends) > coalesce((SELECT kept_from FROM kept_readings WHERE domain = $1), '-infinity')
"""
_ANNOUNCED = """
SELECT kept_from, EXISTS (
    SELECT FROM pg_stat_activity AS a
    WHERE a.datname = current_database() AND a.application_name = $3 AND a.xact_start <= announced_at + $4::interval
) AS is_asked
FROM kept_readings WHERE domain = $1 AND announced_at <= $2
"""


async def drop(database: asyncpg.Connection, engine: Engine, domain: str, before: datetime, now: datetime) -> list[str]:
    """Drops what was announced long enough ago, and announces what ended before an instant.

    To be called outside a transaction. It may be interrupted anywhere: the next call goes on.

    Returns:
        The names of what was dropped.
    """
    dropped: list[str] = []
    async with _patiently(database, domain):
        announced = await database.fetchrow(_ANNOUNCED, domain, now - NOTICE, _QUESTIONS, NOTICE)
        if announced is not None and announced["is_asked"]:
            _say_in_use(domain)
        elif announced is not None:
            # Also what was put back since then, for questions take it for gone.
            dropped += await _drop(database, engine, domain, announced["kept_from"])
        due = await database.fetchval(_DUE, domain, before)
        if due is not None:
            await database.fetchval("SELECT telemetry_forget_raw($1, $2)", domain, due)
    return dropped


async def _drop(database: asyncpg.Connection, engine: Engine, domain: str, before: datetime) -> list[str]:
    if engine == "postgres":
        return await drop_partitions(database, domain, before)
    rows = await database.fetch("SELECT telemetry_drop_partitions($1, $2) AS name", domain, before)
    return [row["name"] for row in rows]


def _say_in_use(domain: str) -> None:
    detail = "Somebody reads or writes for long; what is due is dropped in a later round."
    log.info("partition_in_use", detail=detail, domain=domain)


async def drop_partitions(database: asyncpg.Connection, domain: str, before: datetime) -> list[str]:
    """Drops the partitions that ended before the instant; returns their names.

    To be called outside a transaction. It may be interrupted anywhere: the next call goes on.
    """
    expired = await database.fetch("SELECT * FROM telemetry_expired_partitions($1, $2, $3)", domain, before, _MARK)
    for name, _, state in expired:
        await _drop_one(database, f"{domain}_readings", name, state)
    return [row["name"] for row in expired]


async def _drop_one(database: asyncpg.Connection, table: str, partition: str, state: str) -> None:
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


@asynccontextmanager
async def _patiently(database: asyncpg.Connection, domain: str) -> AsyncIterator[None]:
    await database.execute(f"SET lock_timeout = '{_PATIENCE}'")
    try:
        yield
    except asyncpg.LockNotAvailableError:
        _say_in_use(domain)
    finally:
        if not database.is_closed():
            await database.execute("RESET lock_timeout")
