"""The migration runner: brings a database to the state of the files, once, under an advisory lock.

Each landed file is recorded with its checksum; a landed file that was edited or lost is refused, because the database
would no longer be the sum of its migrations. The engine and the time zone are decided by the first run and stay.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

import asyncpg
import structlog

from telemetry.domains import Kind, Registry, load_domains
from telemetry.errors import ConfigurationError, MigrationError
from telemetry.resources import folder
from telemetry.settings import Settings
from telemetry.store import locks
from telemetry.store.engine import Engine, decide_engine, recorded_engine
from telemetry.store.migrations import Migration, find_migrations
from telemetry.store.pool import connection

log = structlog.get_logger()

_HOUR: Final = timedelta(hours=1)
_LOCK_PATIENCE: Final = "2s"
"""What waits for a lock on a table that somebody reads makes everybody wait who comes later, ingest above all."""
_PAUSE_S: Final = 1.0
_PATIENCE_S: Final = 1800.0
"""Twice as long as an answer may be streamed."""


@dataclass(frozen=True)
class MigrationStatus:
    """One migration as seen from both sides.

    `edited`: it landed, but its file is another now. `lost`: it landed, but its file is gone.
    """

    version: str
    state: Literal["applied", "pending", "edited", "lost"]
    applied_at: str | None


async def migrate(settings: Settings) -> list[str]:
    """Applies what is pending and the policies of the settings; returns the versions applied now.

    Raises:
        MigrationError: a landed file was edited or lost, or a statement failed (its file is named).
        ConfigurationError: engine or time zone differ from what the database was made for.
    """
    async with connection(settings, "db migrate") as database:
        await database.execute("SELECT pg_advisory_lock($1)", locks.MIGRATE)
        engine = await decide_engine(database, settings)
        migrations = _migrations(settings, engine)
        landed = await _landed(database)
        _refuse_drift(migrations, landed)
        await _refuse_another_zone(database, settings)
        await database.execute("SELECT set_config('telemetry.engine', $1, false)", engine)
        await database.execute("SELECT set_config('telemetry.timezone', $1, false)", settings.timezone)
        pending = [each for each in migrations if each.version not in landed]
        for migration in pending:
            await _apply(database, migration)
        await _install_counters(database, load_domains(settings.domains.directories))
        await _apply_policies(database, settings)
        await _set_reader_password(database, settings)
        return [each.version for each in pending]


async def status(settings: Settings) -> tuple[Engine | None, list[MigrationStatus]]:
    """The recorded engine (None before the first migration) and every migration known to either side."""
    async with connection(settings, "db status") as database:
        recorded = await recorded_engine(database)
        migrations = _migrations(settings, recorded or await decide_engine(database, settings, create=False))
        landed = await _landed(database)
    known = {each.version: each for each in migrations}
    return recorded, [_state(version, known.get(version), landed) for version in sorted(known | landed)]


async def check(settings: Settings) -> list[str]:
    """What is wrong with the database, one sentence each; nothing when it is as the files and the models say."""
    recorded, migrations = await status(settings)
    problems = [f"migration {each.version} is {each.state}" for each in migrations if each.state != "applied"]
    if recorded is None or problems:
        return [f"{problem}; run `telemetry db migrate`" if "pending" in problem else problem for problem in problems]
    async with connection(settings, "db check") as database:
        try:
            await _refuse_another_zone(database, settings)
        except ConfigurationError as error:
            problems.append(str(error))
        registry = load_domains(settings.domains.directories)
        return problems + await _column_problems(database, registry)


def remarks(settings: Settings) -> list[str]:
    """What somebody must know who reads the tables directly, one sentence each; nothing that could be put right."""
    today = datetime.now(ZoneInfo(settings.timezone)).replace(hour=0, minute=0, second=0, microsecond=0)
    midnights = [today + timedelta(days=day) for day in range(-366, 366)]
    minutes = {(midnight.utcoffset() or timedelta()) % _HOUR for midnight in midnights} - {timedelta()}
    if not minutes:
        return []
    after = " or ".join(f"{each // timedelta(minutes=1)} minutes" for each in sorted(minutes))
    return [
        f"{settings.timezone} is no whole number of hours off UTC, and the roll-ups <domain>_1d are made of hours of "
        f"UTC: their days, and those of Grafana's views of that name, begin {after} after midnight. Take <domain>_15m "
        "for exact days there; answers over HTTP are exact"
    ]


def _migrations(settings: Settings, engine: Engine) -> list[Migration]:
    return find_migrations([folder("migrations"), *settings.database.migrations], engine)


async def _landed(database: asyncpg.Connection) -> dict[str, asyncpg.Record]:
    if await database.fetchval("SELECT to_regclass('telemetry_migrations') IS NULL"):
        return {}
    rows = await database.fetch("SELECT version, checksum, applied_at FROM telemetry_migrations")
    return {row["version"]: row for row in rows}


def _state(version: str, migration: Migration | None, landed: dict[str, asyncpg.Record]) -> MigrationStatus:
    record = landed.get(version)
    if record is None:
        return MigrationStatus(version, "pending", None)
    applied_at = record["applied_at"].isoformat(timespec="seconds")
    if migration is None:
        return MigrationStatus(version, "lost", applied_at)
    same = migration.checksum == record["checksum"]
    return MigrationStatus(version, "applied" if same else "edited", applied_at)


def _refuse_drift(migrations: list[Migration], landed: dict[str, asyncpg.Record]) -> None:
    known = {each.version: each for each in migrations}
    states = [_state(version, known.get(version), landed) for version in sorted(landed)]
    edited = [each.version for each in states if each.state == "edited"]
    lost = [each.version for each in states if each.state == "lost"]
    if edited:
        raise MigrationError(
            f"{', '.join(edited)}: the file was edited after it had landed; put its old text back and write the change "
            "as a new migration"
        )
    if lost:
        raise MigrationError(
            f"{', '.join(lost)}: landed in this database, but the file is gone; restore it, or add its folder to "
            "database.migrations"
        )


async def _refuse_another_zone(database: asyncpg.Connection, settings: Settings) -> None:
    if await database.fetchval("SELECT to_regclass('telemetry_meta') IS NULL"):
        return
    recorded = await database.fetchval("SELECT value FROM telemetry_meta WHERE key = 'timezone'")
    if recorded != settings.timezone:
        raise ConfigurationError(
            f"timezone is {settings.timezone}, but the daily roll-ups of this database are days of {recorded}; "
            f"set timezone to {recorded}, or migrate an empty database"
        )


async def _apply(database: asyncpg.Connection, migration: Migration) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return await _land(database, migration)
        except asyncpg.LockNotAvailableError as error:
            if not migration.transactional or time.monotonic() > deadline:
                raise _failed(migration, error) from error
            log.warning(
                "migration_waits",
                detail="Somebody uses a table that the migration needs alone; it is tried again.",
                migration=migration.version,
            )
        except asyncpg.PostgresError as error:
            raise _failed(migration, error) from error
        await asyncio.sleep(_PAUSE_S)


async def _land(database: asyncpg.Connection, migration: Migration) -> None:
    record = "INSERT INTO telemetry_migrations (version, checksum) VALUES ($1, $2)"
    if migration.transactional:
        async with database.transaction():
            await database.execute(f"SET LOCAL lock_timeout = '{_LOCK_PATIENCE}'")
            await database.execute(migration.sql)
            await database.execute(record, migration.version, migration.checksum)
    else:
        await database.execute(migration.sql)
        await database.execute(record, migration.version, migration.checksum)


def _failed(migration: Migration, error: asyncpg.PostgresError) -> MigrationError:
    return MigrationError(f"{migration.path.name}: {error} (SQLSTATE {error.sqlstate}); nothing of it landed")


async def _install_counters(database: asyncpg.Connection, registry: Registry) -> None:
    """Makes the cells of every domain that has tables and counters, where they are missing."""
    for row in await database.fetch("SELECT name FROM telemetry_domains ORDER BY name"):
        if row["name"] in registry:
            metrics = registry[row["name"]].metrics.values()
            counters = [metric.name for metric in metrics if metric.kind is Kind.COUNTER]
            await database.execute("CALL telemetry_install_counters($1, $2::text[])", row["name"], counters)


async def _apply_policies(database: asyncpg.Connection, settings: Settings) -> None:
    for row in await database.fetch("SELECT name FROM telemetry_domains ORDER BY name"):
        await database.execute(
            "CALL telemetry_apply_policies($1, $2, $3)",
            row["name"],
            settings.retention.readings,
            settings.retention.columnstore_after,
        )


async def _set_reader_password(database: asyncpg.Connection, settings: Settings) -> None:
    if settings.database.reader_password is None:
        return
    # ALTER ROLE takes no parameters, so the server itself quotes the literal.
    password = settings.database.reader_password.get_secret_value()
    statement = await database.fetchval("SELECT format('ALTER ROLE telemetry_reader PASSWORD %L', $1::text)", password)
    await database.execute(statement)


async def _column_problems(database: asyncpg.Connection, registry: Registry) -> list[str]:
    """Where the tables and the models of the domains disagree."""
    installed = {row["name"] for row in await database.fetch("SELECT name FROM telemetry_domains")}
    problems = [
        f"the domain {name} has no tables; its migration is missing" for name in registry if name not in installed
    ]
    for name in registry:
        if name not in installed:
            continue
        rows = await database.fetch("SELECT name, type FROM telemetry_metrics($1)", name)
        columns = {row["name"]: row["type"] for row in rows}
        wanted = {metric.name: metric.column_type for metric in registry[name].metrics.values()}
        problems += [
            f"{name}.{metric}: the model says {wanted.get(metric, 'nothing')}, "
            f"the table says {columns.get(metric, 'nothing')}"
            for metric in sorted(columns.keys() | wanted.keys())
            if columns.get(metric) != wanted.get(metric)
        ]
    return problems
