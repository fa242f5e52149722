"""Raw readings are dropped, roll-ups stay: whatever comes late, and whoever led the upkeep in between."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from telemetry.api.service import Service
from telemetry.domains import load_domains
from telemetry.query.scope import find_kept_from
from telemetry.settings import Settings
from telemetry.store import devices
from telemetry.store.batch import Batch, Part, Readings
from telemetry.store.devices import Device
from telemetry.store.engine import Engine
from telemetry.store.layout import Layout
from telemetry.store.migrate import migrate
from telemetry.store.writer import Writer
from telemetry.upkeep import retention
from telemetry.upkeep.cells import raw_from
from telemetry.upkeep.rounds import run_once
from tests.integration.query.rows import City, Row

ENERGY = Layout.of(load_domains()["energy"])
METERS = [Device(f"meter-{number}", "energy") for number in range(5)]
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
LONG_AGO = TODAY - timedelta(days=20, hours=-12)
LATELY = TODAY - timedelta(days=1)
CELLS = [f"energy_{kind}{width}" for kind in ("", "counters_") for width in ("15m", "1h", "1d")] + ["counter_breaks"]


@pytest_asyncio.fixture
async def short(settings: Settings, connection: asyncpg.Connection, engine: Engine) -> Settings:
    """Ten days of raw readings are kept: those of twenty days ago have been rolled up, and are gone."""
    city = City(connection, "energy", METERS)
    await city.register()
    for start in (LONG_AGO, LATELY):
        await city.add(
            Row(start + timedelta(minutes=minute), meter, {"active_power_w": 100.0, "energy_import_kwh": index})
            for meter in METERS
            for minute, index in enumerate((1.0, 2.0, 0.5, 1.5, 3.0))
        )
    await run_once(settings)
    kept = settings.model_copy(
        update={
            "retention": settings.retention.model_copy(update={"readings": timedelta(days=10)}),
            "ingest": settings.ingest.model_copy(update={"max_lateness": timedelta(days=8)}),
        }
    )
    await migrate(kept)
    await run_once(kept)  # it is announced
    assert len(await drop(connection, engine, later=True)) == 1
    assert await connection.fetchval("SELECT count(*) FROM energy_readings") == 25
    return kept


async def drop(connection: asyncpg.Connection, engine: Engine, *, later: bool = False) -> list[str]:
    """Drops what is older than ten days, as of now or after the notice."""
    now = datetime.now(UTC) + (2 * retention.NOTICE if later else timedelta(0))
    return await retention.drop(connection, engine, "energy", TODAY - timedelta(days=10), now)


async def cells(connection: asyncpg.Connection) -> dict[str, list[asyncpg.Record]]:
    """Everything that was made of raw readings."""
    return {name: await connection.fetch(f"SELECT * FROM {name} ORDER BY {name}::text") for name in CELLS}


async def of_meter(connection: asyncpg.Connection, *times: datetime) -> Batch:
    """A batch with a reading for each time."""
    key = (await devices.keys(connection))["meter-0"]
    batch = Batch(0, len(times), int(time.time()) * 1_000_000)
    batch.received["energy"] = len(times)
    readings = batch.readings["energy"] = Readings(ENERGY)
    shape = ENERGY.shape(("active_power_w",))
    for at in times:
        us = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        readings.add((us, batch.received_us, key, shape, Part("city/v1/energy/meter-0", b"{}", 0), 60.0))
    return batch


async def coverage(connection: asyncpg.Connection) -> datetime:
    found: datetime = await connection.fetchval("SELECT covered_from FROM counter_coverage WHERE domain = 'energy'")
    return found


@pytest.mark.asyncio
async def test_late_row_of_a_quarter_without_raw_rows_changes_no_roll_up(
    connection: asyncpg.Connection, short: Settings
) -> None:
    before = await cells(connection)
    assert sum(row["samples"] for row in before["energy_1d"]) == 50
    city = City(connection, "energy", METERS)
    await city.add([Row(LONG_AGO + timedelta(minutes=7), METERS[0], {"energy_import_kwh": 9.0})])
    await run_once(short)
    assert await connection.fetchval("SELECT count(*) FROM late_ranges") == 0
    assert await cells(connection) == before


@pytest.mark.asyncio
async def test_reading_that_comes_after_its_raw_rows_are_gone_is_refused(
    connection: asyncpg.Connection, short: Settings, engine: Engine
) -> None:
    since = await raw_from(connection, "energy")
    assert since is not None
    assert LONG_AGO < since <= TODAY - timedelta(days=9)
    batch = await of_meter(connection, LONG_AGO, since - timedelta(microseconds=1), LATELY + timedelta(hours=1))
    writer = Writer(short, "worker", lambda: None)
    counts = await writer.write(batch)
    await writer.close()
    assert counts == {("energy", "received"): 3, ("energy", "stored"): 1, ("energy", "beyond_retention"): 2}
    assert {row[0] for row in await connection.fetch("SELECT reason FROM quarantine")} == {"beyond_retention"}
    assert await connection.fetchval("SELECT count(*) FROM late_ranges") == 1
    assert await connection.fetchval("SELECT min(time) FROM energy_readings") == LATELY
    if engine == "postgres":
        assert await connection.fetchval("SELECT to_regclass($1)", f"energy_readings_{LONG_AGO:%Y%m%d}") is None


@pytest.mark.asyncio
async def test_writer_learns_in_its_transaction_what_is_not_kept_any_more(
    connection: asyncpg.Connection, short: Settings
) -> None:
    writer = Writer(short, "worker", lambda: None)
    await writer.write(await of_meter(connection, LATELY + timedelta(hours=1)))
    await connection.execute("SELECT telemetry_keep_from('energy', $1)", TODAY)
    await connection.execute("DELETE FROM late_ranges")
    counts = await writer.write(await of_meter(connection, LATELY + timedelta(hours=2)))
    await writer.close()
    assert counts == {("energy", "received"): 1, ("energy", "beyond_retention"): 1}
    assert await connection.fetchval("SELECT count(*) FROM late_ranges") == 0


@pytest.mark.asyncio
async def test_cells_of_counters_outlive_their_raw_rows_when_coverage_begins_anew(
    connection: asyncpg.Connection, short: Settings
) -> None:
    before, covered = await cells(connection), await coverage(connection)
    for _ in range(2):
        # As after a round of a release that knows no cells.
        await connection.execute("UPDATE closings SET noted_at = noted_at + interval '1 second'")
        await run_once(short)
    since = await raw_from(connection, "energy")
    assert since is not None
    assert await coverage(connection) > since
    for _ in range(4):
        await run_once(short)
    assert await cells(connection) == before
    assert await coverage(connection) == covered


@pytest.mark.asyncio
async def test_coverage_that_never_reached_back_ends_where_raw_rows_begin(
    connection: asyncpg.Connection, short: Settings
) -> None:
    await connection.execute("UPDATE counter_coverage SET covered_from = 'infinity'")
    for _ in range(4):
        await run_once(short)
    assert await coverage(connection) == await raw_from(connection, "energy")


@pytest.mark.asyncio
async def test_partition_stays_until_its_last_reading_is_in_the_roll_ups(
    connection: asyncpg.Connection, settings: Settings, engine: Engine
) -> None:
    city = City(connection, "energy", METERS)
    await city.register()
    await city.add([Row(LONG_AGO, METERS[0], {"active_power_w": 1.0})])
    for later in (False, True):
        assert await drop(connection, engine, later=later) == []
    assert await raw_from(connection, "energy") is None
    await run_once(settings)
    assert await drop(connection, engine) == []
    assert len(await drop(connection, engine, later=True)) == 1
    assert await raw_from(connection, "energy") == LONG_AGO.replace(hour=0) + timedelta(days=1)
    assert await connection.fetchval("SELECT samples FROM energy_15m") == 1


@pytest.mark.asyncio
async def test_what_was_dropped_stays_dropped_when_more_is_kept(
    connection: asyncpg.Connection, short: Settings, settings: Settings
) -> None:
    since = await raw_from(connection, "energy")
    await migrate(settings)
    assert await raw_from(connection, "energy") == since


@pytest.mark.asyncio
async def test_question_that_began_before_the_announcement_is_waited_for(
    connection: asyncpg.Connection, settings: Settings, engine: Engine
) -> None:
    """It has seen that all days are there, and may look at them whenever it likes."""
    city = City(connection, "energy", METERS)
    await city.register()
    await city.add([Row(LONG_AGO, METERS[0], {"active_power_w": 1.0})])
    await run_once(settings)
    service = await Service.start(settings, load_domains())
    try:
        async with service.reading() as asking:
            assert await find_kept_from(asking, "energy") is None
            for later in (False, True, True):
                assert await drop(connection, engine, later=later) == []
            assert await asking.fetchval("SELECT count(*) FROM energy_readings") == 1
        async with asyncio.timeout(60):
            while not await drop(connection, engine, later=True):
                await asyncio.sleep(0.05)
        async with service.reading() as asking:
            assert await find_kept_from(asking, "energy") == await raw_from(connection, "energy")
    finally:
        await service.pool.close()
        await service.probe.close()
