"""What upkeep notes of closed quarters of an hour: late and completed readings, and nothing that is neither."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from telemetry.domains import load_domains
from telemetry.settings import Settings
from telemetry.store import devices
from telemetry.store.batch import Batch, Part, Readings
from telemetry.store.layout import FIRST_METRIC, Layout, Row
from telemetry.store.writer import Writer
from telemetry.upkeep.changes import closed_before
from telemetry.upkeep.rounds import run_once

WASTE = Layout.of(load_domains()["waste"])
QUARTER = timedelta(minutes=15)
AN_HOUR_AGO = closed_before(datetime.now(UTC), timedelta(hours=1))
"""The beginning of a quarter of an hour."""


@pytest_asyncio.fixture
async def device_key(connection: asyncpg.Connection) -> int:
    """A registered device."""
    return (await devices.register(connection, {"bin": "waste"}))["bin"]


async def write(settings: Settings, device_key: int, *readings: tuple[datetime, dict[str, Any]]) -> None:
    """Stores readings of the device in one batch, as ingest does."""
    now = time.time_ns() // 1000
    batch = Batch(0, len(readings), now)
    batch.received["waste"] = len(readings)
    batch.readings["waste"] = Readings(WASTE)
    for at, values in readings:
        cells = [values.get(column) for column in WASTE.columns[FIRST_METRIC:]]
        row = Row((int(at.timestamp()) * 1_000_000, now, device_key, *cells))
        batch.readings["waste"].add(WASTE.entry(row, Part("city/v1/waste/bin", b"{}", 0)))
    writer = Writer(settings, "worker", lambda: None)
    await writer.write(batch)
    await writer.close()


async def noted(connection: asyncpg.Connection) -> list[tuple[datetime, int | None, int]]:
    rows = await connection.fetch("SELECT quarter, late, merged FROM changes ORDER BY id")
    return [tuple(row) for row in rows]


@pytest.mark.asyncio
async def test_what_came_before_closing_is_no_change(
    settings: Settings, connection: asyncpg.Connection, device_key: int
) -> None:
    await write(settings, device_key, (AN_HOUR_AGO, {"fill_level_pct": 1.0}))
    await run_once(settings)
    assert await noted(connection) == []
    row = await connection.fetchrow("SELECT quarter, readings FROM closed_quarters")
    assert row is not None
    assert tuple(row) == (AN_HOUR_AGO, 1)


@pytest.mark.asyncio
async def test_late_and_completed_readings_are_counted_and_duplicates_are_none(
    settings: Settings, connection: asyncpg.Connection, device_key: int
) -> None:
    first = (AN_HOUR_AGO, {"fill_level_pct": 1.0})
    await write(settings, device_key, first)
    await run_once(settings)
    await write(settings, device_key, first)
    await run_once(settings)
    assert await noted(connection) == []
    completing = (AN_HOUR_AGO, {"weight_kg": 3.0})
    more = [(AN_HOUR_AGO + timedelta(seconds=number), {"fill_level_pct": 2.0}) for number in (1, 2, 900)]
    await write(settings, device_key, first, completing, *more)
    await run_once(settings)
    # The second quarter had closed before it ever had a reading, but so long ago that nobody was counting.
    assert await noted(connection) == [(AN_HOUR_AGO, 2, 1), (AN_HOUR_AGO + QUARTER, None, 0)]
    await write(settings, device_key, (AN_HOUR_AGO + QUARTER, {"weight_kg": 1.0}))
    await run_once(settings)
    assert (await noted(connection))[2:] == [(AN_HOUR_AGO + QUARTER, 0, 1)]
    assert await connection.fetchval("SELECT count(*) FROM completed_readings") == 0


@pytest.mark.asyncio
async def test_first_reading_of_a_quarter_that_closed_empty_is_late(
    settings: Settings, connection: asyncpg.Connection, device_key: int
) -> None:
    await run_once(settings)
    await connection.execute("UPDATE closings SET first_until = first_until - interval '1 day'")
    await write(settings, device_key, (AN_HOUR_AGO, {"fill_level_pct": 1.0}))
    await run_once(settings)
    assert await noted(connection) == [(AN_HOUR_AGO, 1, 0)]


@pytest.mark.asyncio
async def test_quarter_that_is_over_but_not_closed_has_no_changes(
    settings: Settings, connection: asyncpg.Connection, device_key: int
) -> None:
    patient = settings.model_copy(
        update={"maintain": settings.maintain.model_copy(update={"closes_after": timedelta(hours=3)})}
    )
    for second in range(2):
        await write(settings, device_key, (AN_HOUR_AGO + timedelta(seconds=second), {"fill_level_pct": 1.0}))
        await run_once(patient)
    assert await noted(connection) == []
    await run_once(settings)
    await write(settings, device_key, (AN_HOUR_AGO + timedelta(seconds=2), {"fill_level_pct": 1.0}))
    await run_once(settings)
    assert await noted(connection) == [(AN_HOUR_AGO, 1, 0)]


@pytest.mark.asyncio
async def test_rounds_are_noted_in_rising_order_even_where_the_clock_went_back(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    await run_once(settings)
    ahead = datetime.now(UTC) + timedelta(hours=1)
    await connection.execute("UPDATE closings SET noted_at = $1", ahead)
    await run_once(settings)
    assert await connection.fetchval("SELECT min(noted_at) FROM closings") > ahead


@pytest.mark.asyncio
async def test_record_is_forgotten_with_the_readings(settings: Settings, connection: asyncpg.Connection) -> None:
    long_ago = datetime.now(UTC) - settings.retention.readings - timedelta(days=1)
    await connection.execute(
        "INSERT INTO changes (domain, quarter, closed_until, noted_at, merged) VALUES ('waste', $1, $1, $1, 1)",
        long_ago,
    )
    await connection.execute("INSERT INTO closed_quarters VALUES ('waste', $1, 1)", long_ago)
    await run_once(settings)
    assert await connection.fetchval("SELECT count(*) FROM changes") == 0
    assert await connection.fetchval("SELECT count(*) FROM closed_quarters") == 0


def test_newest_closed_quarter_is_the_one_that_ended_long_enough_ago() -> None:
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    minute = timedelta(minutes=1)
    assert closed_before(noon + minute, minute) == noon
    assert closed_before(noon + minute - timedelta(microseconds=1), minute) == noon - QUARTER
