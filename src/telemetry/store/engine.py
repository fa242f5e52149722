"""Which storage engine a database has: decided by the first migration, recorded, and never asked again elsewhere."""

from __future__ import annotations

from typing import Literal, cast

import asyncpg

from telemetry.errors import ConfigurationError
from telemetry.settings import Settings

Engine = Literal["postgres", "timescaledb"]

MINIMUM_TIMESCALEDB = (2, 26, 3)
"""Time-zone aware buckets and gap filling are right from this version on."""
MINIMUM_POSTGRES = 150_000


async def recorded_engine(database: asyncpg.Connection) -> Engine | None:
    """The engine that the first migration recorded; None in a database that was never migrated."""
    if await database.fetchval("SELECT to_regclass('telemetry_meta') IS NULL"):
        return None
    return cast(Engine, await database.fetchval("SELECT value FROM telemetry_meta WHERE key = 'engine'"))


async def decide_engine(database: asyncpg.Connection, settings: Settings, *, create: bool = True) -> Engine:
    """The engine of this database: the recorded one, else the setting's, else TimescaleDB where the server offers it.

    Args:
        create: make the extension when TimescaleDB is chosen.

    Raises:
        ConfigurationError: the setting contradicts the record, or the server cannot carry the engine.
    """
    wanted = settings.database.engine
    recorded = await recorded_engine(database)
    if recorded is not None and wanted not in ("auto", recorded):
        raise ConfigurationError(
            f"database.engine is {wanted}, but this database was made for {recorded}; "
            f"set it to {recorded} or auto, or migrate an empty database"
        )
    await _require_postgres(database)
    offered = await _offered_timescaledb(database)
    engine: Engine = recorded or (wanted if wanted != "auto" else "timescaledb" if offered else "postgres")
    if engine == "timescaledb":
        if offered is None:
            raise ConfigurationError(
                "database.engine is timescaledb, but the server does not offer the extension; install TimescaleDB and "
                "add it to shared_preload_libraries, or set database.engine to postgres"
            )
        if create:
            await database.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        await _require_timescaledb(database, offered)
    return engine


async def _require_postgres(database: asyncpg.Connection) -> None:
    version = int(await database.fetchval("SELECT current_setting('server_version_num')"))
    if version < MINIMUM_POSTGRES:
        raise ConfigurationError(f"PostgreSQL {version // 10_000} is too old; 15 or newer is needed")
    encoding = await database.fetchval("SELECT current_setting('server_encoding')")
    if encoding != "UTF8":
        raise ConfigurationError(f"the encoding of the database is {encoding}; make one with ENCODING 'UTF8'")


async def _offered_timescaledb(database: asyncpg.Connection) -> str | None:
    """The version that the server can run: packaged, and loaded at its start."""
    version: str | None = await database.fetchval(
        """
        SELECT coalesce(installed_version, default_version)
        FROM pg_available_extensions
        WHERE name = 'timescaledb'
          -- The loader defines this setting; shared_preload_libraries itself is hidden from ordinary users.
          AND EXISTS (SELECT FROM pg_settings WHERE name = 'timescaledb.max_background_workers')
        """
    )
    return version


async def _require_timescaledb(database: asyncpg.Connection, version: str) -> None:
    numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:3])
    if numbers < MINIMUM_TIMESCALEDB:
        needed = ".".join(str(part) for part in MINIMUM_TIMESCALEDB)
        raise ConfigurationError(
            f"TimescaleDB {version} is too old; {needed} or newer is needed (ALTER EXTENSION timescaledb UPDATE)"
        )
    licence = await database.fetchval("SELECT current_setting('timescaledb.license', true)")
    if licence == "apache":
        raise ConfigurationError(
            "timescaledb.license is apache; continuous aggregates need the Community edition (timescale)"
        )
