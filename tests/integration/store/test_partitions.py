"""Partitions of the plain engine: made by several processes at the same moment, and days that have none."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from telemetry.domains import load_domains
from telemetry.settings import Settings
from telemetry.store import devices
from telemetry.store.batch import Batch, Part, Readings
from telemetry.store.layout import Layout
from telemetry.store.partitions import ensure_partitions
from telemetry.store.pool import connection as connected
from telemetry.store.writer import Writer
from telemetry.upkeep.rounds import Round, run_once

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
YESTERDAY = TODAY - timedelta(days=1)
WASTE = Layout.of(load_domains()["waste"])


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
