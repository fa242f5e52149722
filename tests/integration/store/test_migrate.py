"""The migration runner, on both engines: once, in order, and never past a file that was edited."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from telemetry.errors import ConfigurationError, MigrationError, Unavailable
from telemetry.resources import folder
from telemetry.settings import Settings, load_settings
from telemetry.store import devices
from telemetry.store.engine import Engine
from telemetry.store.migrate import check, migrate, status
from telemetry.store.pool import connection as connected

NUMBER = len({path.name[:4] for path in folder("migrations").glob("*.sql")})
"""Of our migrations; some are files for one engine each."""


@pytest.fixture
def empty(empty_database_url: str, engine: Engine) -> Settings:
    """Settings for a database without tables."""
    return load_settings(overrides={"database.url": empty_database_url, "database.engine": engine})


def with_folder(settings: Settings, folder: Path) -> Settings:
    """The settings with a further folder of migrations."""
    return settings.model_copy(update={"database": settings.database.model_copy(update={"migrations": [folder]})})


@pytest.mark.asyncio
async def test_migrate_makes_everything_once(empty: Settings, engine: Engine) -> None:
    assert [each.state for each in (await status(empty))[1]] == ["pending"] * NUMBER
    assert "run `telemetry db migrate`" in (await check(empty))[0]
    assert len(await migrate(empty)) == NUMBER
    assert await migrate(empty) == []
    assert await check(empty) == []
    recorded, migrations = await status(empty)
    assert recorded == engine
    assert {each.state for each in migrations} == {"applied"}


@pytest.mark.asyncio
async def test_two_runners_at_once_apply_everything_once(empty: Settings) -> None:
    applied = await asyncio.gather(migrate(empty), migrate(empty))
    assert sorted(len(each) for each in applied) == [0, NUMBER]


@pytest.mark.asyncio
async def test_edited_or_lost_migration_is_refused(empty: Settings, tmp_path: Path) -> None:
    settings = with_folder(empty, tmp_path)
    file = tmp_path / "0900_note.sql"
    file.write_text("CREATE TABLE note ();\n")
    await migrate(settings)
    file.write_bytes(b"CREATE TABLE note ();\r\n")
    assert await migrate(settings) == [], "line ends do not count"
    file.write_text("CREATE TABLE note (a int);\n")
    with pytest.raises(MigrationError, match="0900_note: the file was edited after it had landed"):
        await migrate(settings)
    assert await check(settings) == ["migration 0900_note is edited"]
    file.unlink()
    with pytest.raises(MigrationError, match="0900_note: landed in this database, but the file is gone"):
        await migrate(settings)


@pytest.mark.asyncio
async def test_failing_migration_leaves_nothing_and_is_named(empty: Settings, tmp_path: Path) -> None:
    settings = with_folder(empty, tmp_path)
    (tmp_path / "0900_note.sql").write_text("CREATE TABLE note ();\nSELECT 1 / 0;\n")
    with pytest.raises(MigrationError, match=r"0900_note\.sql: division by zero \(SQLSTATE 22012\)"):
        await migrate(settings)
    (tmp_path / "0900_note.sql").write_text("CREATE TABLE note ();\n")
    assert await migrate(settings) == ["0900_note"]


@pytest.mark.asyncio
async def test_migration_that_waits_for_a_reader_holds_up_nobody(
    settings: Settings, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    (tmp_path / "0900_alone.sql").write_text("ALTER TABLE devices ADD COLUMN note text;\n")
    async with connected(settings, "reads") as reader:
        async with reader.transaction():
            await reader.fetch("SELECT FROM devices")
            migrating = asyncio.create_task(migrate(with_folder(settings, tmp_path)))
            deadline = asyncio.get_running_loop().time() + 4
            while asyncio.get_running_loop().time() < deadline:
                assert not migrating.done()
                async with asyncio.timeout(60):  # it would never end behind one that waits for the reader
                    await devices.register(connection, {"bin": "waste"})
                await asyncio.sleep(0.05)
        assert await migrating == ["0900_alone"]


@pytest.mark.asyncio
async def test_statement_that_allows_no_transaction_has_a_file_of_its_own(empty: Settings, tmp_path: Path) -> None:
    settings = with_folder(empty, tmp_path)
    (tmp_path / "0900_index.sql").write_text("-- no transaction\nCREATE INDEX CONCURRENTLY i ON devices (zone);\n")
    assert (await migrate(settings))[-1] == "0900_index"
    (tmp_path / "0901_more.sql").write_text("-- no transaction\nVACUUM devices; VACUUM ledger;\n")
    with pytest.raises(MigrationError, match="exactly one statement"):
        await migrate(settings)


@pytest.mark.asyncio
async def test_engine_and_time_zone_of_the_first_run_stay(empty: Settings, engine: Engine) -> None:
    await migrate(empty)
    with pytest.raises(ConfigurationError, match="days of Europe/Paris"):
        await migrate(empty.model_copy(update={"timezone": "Europe/Berlin"}))
    other = "postgres" if engine == "timescaledb" else "timescaledb"
    changed = empty.model_copy(update={"database": empty.database.model_copy(update={"engine": other})})
    with pytest.raises(ConfigurationError, match=f"this database was made for {engine}"):
        await migrate(changed)


@pytest.mark.asyncio
async def test_column_that_differs_from_the_model_is_found(settings: Settings, connection: asyncpg.Connection) -> None:
    await connection.execute("DROP VIEW grafana.waste")
    await connection.execute("ALTER TABLE waste_readings ADD COLUMN smell double precision")
    assert await check(settings) == ["waste.smell: the model says nothing, the table says double precision"]


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_unreachable_database_is_told_without_its_password(settings: Settings) -> None:
    away = load_settings(overrides={"database.url": "postgresql://me:hush@127.0.0.1:1/none"})
    with pytest.raises(Unavailable) as caught:
        await migrate(away)
    assert "127.0.0.1:1/none" in str(caught.value)
    assert "hush" not in str(caught.value)
