"""Partitions of the plain engine: made by several processes at the same moment, dropped whatever else is there."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import date, timedelta

import asyncpg
import pytest

from telemetry.settings import Settings
from telemetry.store.maintain import ensure_partitions
from telemetry.store.pool import connection as connected


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
