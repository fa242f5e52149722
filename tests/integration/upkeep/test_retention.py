"""Partitions of the plain engine that are too old are dropped, whatever else is there."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from telemetry.settings import Settings
from telemetry.store import devices
from telemetry.store.partitions import ensure_partitions
from telemetry.store.pool import connection as connected
from telemetry.upkeep import retention
from telemetry.upkeep.retention import drop_partitions

OLD = [date(2020, 1, 1), date(2020, 1, 2)]
NAMES = ["waste_readings_20200101", "waste_readings_20200102"]
BEFORE = datetime(2021, 1, 1, tzinfo=UTC)
INSERT = "INSERT INTO waste_readings (time, received_at, device_key) VALUES ($1, $1, $2)"


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


async def present(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relname LIKE 'waste\\_readings\\__%' AND relkind = 'r' ORDER BY relname"
    )
    return [row["relname"] for row in rows]
