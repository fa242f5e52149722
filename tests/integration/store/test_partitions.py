"""Partitions of the plain engine: made by several processes at the same moment, dropped whatever else is there."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from telemetry.domains import load_domains
from telemetry.settings import Settings
from telemetry.store import devices, retention
from telemetry.store.batch import Batch, Part, Readings
from telemetry.store.layout import Layout
from telemetry.store.maintain import Round, run_once
from telemetry.store.partitions import ensure_partitions
from telemetry.store.pool import connection as connected
from telemetry.store.retention import drop_partitions
from telemetry.store.writer import Writer

OLD = [date(2020, 1, 1), date(2020, 1, 2)]
NAMES = ["waste_readings_20200101", "waste_readings_20200102"]
BEFORE = datetime(2021, 1, 1, tzinfo=UTC)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
YESTERDAY = TODAY - timedelta(days=1)
WASTE = Layout.of(load_domains()["waste"])
INSERT = "INSERT INTO waste_readings (time, received_at, device_key) VALUES ($1, $1, $2)"


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_partition_that_several_processes_want_at_once_is_made_once(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(connected(settings, "test")) for _ in range(4)]
        for number in range(12):
            day = date(2031, 1, 1) + timedelta(days=number)
            made = await asyncio.gather(*(ensure_partitions(each, "waste", [day]) for each in databases))
            assert sum(made) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_partitions_are_dropped_whatever_the_planner_looks_at_first(connection: asyncpg.Connection) -> None:
    days = [date(2020, 1, 1), date(2031, 1, 1)]
    await ensure_partitions(connection, "waste", days)
    # As it does by itself in a database of many partitions: names of all relations are read before they are joined.
    await connection.execute("SET enable_nestloop = off; SET enable_indexscan = off; SET enable_bitmapscan = off")
    rows = await connection.fetch("SELECT telemetry_drop_partitions('waste', '2021-01-01 00:00+00') AS name")
    assert [row["name"] for row in rows] == ["waste_readings_20200101"]
    await ensure_partitions(connection, "waste", days)
    assert await drop_partitions(connection, "waste", BEFORE) == ["waste_readings_20200101"]


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_partition_that_somebody_reads_is_dropped_later_and_holds_up_nobody(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    later = now + 2 * retention.NOTICE
    key = (await devices.register(connection, {"bin": "waste"}))["bin"]
    await ensure_partitions(connection, "waste", [*OLD, now.date()])
    async with connected(settings, "reads") as reader, connected(settings, "drops") as dropper:
        async with reader.transaction(isolation="repeatable_read", readonly=True):
            await reader.fetch("SELECT FROM waste_readings LIMIT 1")
            assert await retention.drop(dropper, "postgres", "waste", BEFORE, now) == []  # it is announced
            dropping = asyncio.create_task(retention.drop(dropper, "postgres", "waste", BEFORE, later))
            while not dropping.done():
                async with connection.transaction():
                    await connection.execute("SET LOCAL lock_timeout = '1s'")
                    await connection.execute(INSERT, now, key)
                    now += timedelta(microseconds=1)
                    await connection.fetch("SELECT FROM waste_readings")
                await asyncio.sleep(0.02)
            assert await dropping == []
            assert await reader.fetch("SELECT FROM waste_readings LIMIT 1") == []
        assert await retention.drop(dropper, "postgres", "waste", BEFORE, later) == NAMES
        assert await dropper.fetchval("SHOW lock_timeout") == "0"
    assert await present(connection) == [f"waste_readings_{now:%Y%m%d}"]


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_drop_goes_on_where_an_earlier_one_was_interrupted(connection: asyncpg.Connection) -> None:
    await ensure_partitions(connection, "waste", OLD)
    await retention._detach(connection, "waste_readings", NAMES[0])  # by hand, to keep it
    await connection.execute(f"COMMENT ON TABLE {NAMES[1]} IS '{retention._MARK}'")
    await retention._detach(connection, "waste_readings", NAMES[1])
    assert await drop_partitions(connection, "waste", BEFORE) == NAMES[1:]
    assert await present(connection) == NAMES[:1]


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_partition_is_dropped_beside_a_default_partition(connection: asyncpg.Connection) -> None:
    await ensure_partitions(connection, "waste", OLD)
    await connection.execute("CREATE TABLE waste_readings_rest PARTITION OF waste_readings DEFAULT")
    assert await drop_partitions(connection, "waste", BEFORE) == NAMES
    assert await present(connection) == ["waste_readings_rest"]


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_reading_of_a_day_that_somebody_keeps_apart_is_refused_and_holds_up_nobody(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    """Its roll-ups stay: they are made of the readings that are kept apart."""
    key = (await devices.register(connection, {"bin": "waste"}))["bin"]
    writer = Writer(settings, "worker", lambda: None)
    await writer.write(batch(key, YESTERDAY, TODAY))
    await run_once(settings)
    roll_ups = [await connection.fetch(f"SELECT * FROM waste_{width} ORDER BY bucket") for width in ("15m", "1h", "1d")]
    for number in (1, 2):
        await connection.execute(f"ALTER TABLE waste_readings DETACH PARTITION waste_readings_{YESTERDAY:%Y%m%d}")
        more = [day + number * timedelta(minutes=20) for day in (YESTERDAY, TODAY)]
        async with asyncio.timeout(120):
            counts = await writer.write(batch(key, *more))
        assert counts == {
            ("waste", "received"): 2,
            ("waste", "stored"): 1,
            ("waste", "rejected_by_database"): 1,
        }
        (detail,) = [row["detail"] for row in await connection.fetch("DELETE FROM quarantine RETURNING detail")]
        assert "detached" in detail
        assert await run_once(settings) != Round(leader=False)
        for width, before in zip(("15m", "1h", "1d"), roll_ups, strict=True):
            kept = await connection.fetch(f"SELECT * FROM waste_{width} WHERE bucket < $1", TODAY - timedelta(hours=12))
            assert kept == [row for row in before if row["bucket"] < TODAY - timedelta(hours=12)]
        # Attached again, it takes what comes: also from a writer that knows the days from before.
        await connection.execute(
            f"ALTER TABLE waste_readings ATTACH PARTITION waste_readings_{YESTERDAY:%Y%m%d} "
            f"FOR VALUES FROM ('{YESTERDAY:%Y-%m-%d} 00:00+00') TO ('{TODAY:%Y-%m-%d} 00:00+00')"
        )
    counts = await writer.write(batch(key, YESTERDAY + timedelta(hours=2)))
    assert counts["waste", "stored"] == 1
    await writer.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
@pytest.mark.parametrize("known", [False, True])
async def test_partition_that_is_gone_is_made_again_by_a_writer_that_remembers_it(
    settings: Settings, connection: asyncpg.Connection, known: bool
) -> None:
    key = (await devices.register(connection, {"bin": "waste"}))["bin"]
    writer = Writer(settings, "worker", lambda: None)
    for _ in range(1 + known):  # what comes again is written with care from then on
        await writer.write(batch(key, TODAY))
    await connection.execute(f"DROP TABLE waste_readings_{TODAY:%Y%m%d}")
    async with asyncio.timeout(120):
        counts = await writer.write(batch(key, TODAY + timedelta(minutes=1)))
    await writer.close()
    assert counts == {("waste", "received"): 1, ("waste", "stored"): 1}


def batch(key: int, *times: datetime) -> Batch:
    """A batch with a reading for each time."""
    made = Batch(0, len(times), int(TODAY.timestamp()) * 1_000_000)
    made.received["waste"] = len(times)
    readings = made.readings["waste"] = Readings(WASTE)
    shape = WASTE.shape(("fill_level_pct",))
    for at in times:
        us = int(at.timestamp()) * 1_000_000
        readings.add((us, us, key, shape, Part("city/v1/waste/bin", b"{}", 0), 60.0))
    return made


async def present(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relname LIKE 'waste\\_readings\\__%' AND relkind = 'r' ORDER BY relname"
    )
    return [row["relname"] for row in rows]
