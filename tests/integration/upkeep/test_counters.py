"""The cells of counters: believed only where they were kept, and made up for where they were not."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from telemetry.domains import load_domains
from telemetry.query.question import Asked, Question, understand
from telemetry.query.series import Series
from telemetry.settings import Settings
from telemetry.store import meter_swaps
from telemetry.store.devices import Device
from telemetry.store.meter_swaps import Swap
from telemetry.store.migrate import migrate
from telemetry.upkeep.rounds import run_once
from tests.integration.query.asking import ask
from tests.integration.query.rows import City, Row

METER = Device("meter", "energy", interval_s=300)
TODAY = (datetime.now(UTC) - timedelta(hours=2)).replace(hour=0, minute=0, second=0, microsecond=0)
"""A midnight that is long enough ago for the quarters before it to be closed."""
START = TODAY - timedelta(days=4)
INDEX = "energy_import_kwh"


@pytest.fixture
def question() -> Question:
    asked = Asked([INDEX], ["increase"], START.isoformat(), TODAY.isoformat(), "1h", tz="UTC")
    return understand(load_domains()["energy"], asked, "Europe/Paris", datetime.now(UTC))


async def filled(connection: asyncpg.Connection) -> City:
    """Days in which the index rises by one at each reading, but for a reset in the middle of a quarter of an hour."""
    city = City(connection, "energy", [METER])
    await city.register()
    await city.add(readings(range(0, 4 * 288, 2)))
    return city


def readings(numbers: Iterable[int]) -> list[Row]:
    reset = 410
    return [
        Row(START + timedelta(minutes=5 * number), METER, {INDEX: float(number if number < reset else number - reset)})
        for number in numbers
    ]


async def read(connection: asyncpg.Connection, question: Question) -> tuple[float, set[str]]:
    """The increase over the range, and from which relations it comes."""
    series: Series = await ask(connection, question)
    return sum(point.values[0] for point in series.points), {each.relation for each in series.plan.changes}


def near(value: float) -> Any:
    return pytest.approx(value)


async def cells(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    tables = ("energy_counters_15m", "energy_counters_1h", "energy_counters_1d")
    return [row for table in tables for row in await connection.fetch(f"TABLE {table} ORDER BY bucket")]


@pytest.mark.asyncio
async def test_cells_answer_without_any_reading(
    connection: asyncpg.Connection, settings: Settings, question: Question
) -> None:
    await filled(connection)
    before = await read(connection, question)
    assert before[1] == {"readings"}
    await run_once(settings)
    assert await read(connection, question) == (near(before[0]), {"counters_1h"})
    await connection.execute("DELETE FROM energy_readings")
    assert await read(connection, question) == (near(before[0]), {"counters_1h"})


@pytest.mark.asyncio
async def test_late_reading_refreshes_its_cells_and_what_is_refreshed_equals_what_is_made_at_once(
    connection: asyncpg.Connection, settings: Settings, question: Question
) -> None:
    city = await filled(connection)
    await run_once(settings)
    await city.add(readings(range(201, 700, 50)))
    assert (await read(connection, question))[1] > {"readings", "counters_1h"}
    await run_once(settings)
    piecemeal = await cells(connection)
    assert (await read(connection, question))[1] == {"counters_1h"}
    await connection.execute("CALL telemetry_refresh_counters('energy', $1, $2)", START, TODAY)
    assert await cells(connection) == piecemeal


@pytest.mark.asyncio
async def test_database_of_a_release_without_cells_answers_the_same_at_every_step(
    connection: asyncpg.Connection, settings: Settings, question: Question
) -> None:
    await filled(connection)
    await run_once(settings)
    wanted, _ = await read(connection, question)
    await connection.execute("DROP TABLE energy_counters_15m, energy_counters_1h, energy_counters_1d")
    await connection.execute("DELETE FROM counter_coverage WHERE domain = 'energy'")
    assert await read(connection, question) == (near(wanted), {"readings"})
    await migrate(settings)
    assert await read(connection, question) == (near(wanted), {"readings"})
    while (await run_once(settings)).counter_days_covered:
        assert (await read(connection, question))[0] == near(wanted)
    assert await read(connection, question) == (near(wanted), {"counters_1h"})
    assert await connection.fetchval("SELECT covered_from = '-infinity' FROM counter_coverage WHERE domain = 'energy'")


@pytest.mark.asyncio
async def test_cells_are_not_believed_after_a_release_without_them_led_the_upkeep(
    connection: asyncpg.Connection, settings: Settings, question: Question
) -> None:
    city = await filled(connection)
    await run_once(settings)
    wanted, _ = await read(connection, question)
    # What such a release does: roll-ups, list and stamp, but no cells.
    await city.add([Row(START + timedelta(minutes=7), METER, {INDEX: 1.9})])
    await connection.execute("DELETE FROM late_ranges")
    await connection.execute("UPDATE closings SET noted_at = noted_at + interval '1 second' WHERE domain = 'energy'")
    assert await read(connection, question) == (near(wanted), {"readings"})
    while (await run_once(settings)).counter_days_covered:
        found, relations = await read(connection, question)
        assert (found, "counters_1h" in relations) == (near(wanted), True)
    assert await read(connection, question) == (near(wanted), {"counters_1h"})
    row = await connection.fetchrow("SELECT * FROM energy_counters_15m WHERE bucket = $1", START)
    assert row is not None
    assert row[f"{INDEX}_last_at"] == START + timedelta(minutes=10)


@pytest.mark.asyncio
async def test_declared_swap_is_exact_before_and_after_upkeep_and_noted_once(
    connection: asyncpg.Connection, settings: Settings, question: Question
) -> None:
    await filled(connection)
    await run_once(settings)
    await connection.execute("UPDATE closings SET first_until = first_until - interval '30 days'")
    before, _ = await read(connection, question)
    at = START + timedelta(days=3, minutes=2)
    # The old meter's last reading was 454 at midnight, the new one's first is 456 ten minutes later.
    swap = Swap("meter", "energy", INDEX, at, start_index=400.0, final_index=455.0)
    assert await meter_swaps.declare(connection, swap)
    wanted = near(before + 1 + 56 - 2)
    assert await read(connection, question) == (wanted, {"readings", "counters_15m", "counters_1h"})
    await run_once(settings)
    assert await read(connection, question) == (wanted, {"counters_1h"})
    assert not await meter_swaps.declare(connection, swap)
    await run_once(settings)
    assert await noted(connection) == [(at - timedelta(minutes=2), 0, 1)]
    assert await meter_swaps.withdraw(connection, "meter", INDEX, at)
    assert not await meter_swaps.withdraw(connection, "meter", INDEX, at)
    await run_once(settings)
    assert await read(connection, question) == (near(before), {"counters_1h"})
    assert (await noted(connection))[1:] == [(at - timedelta(minutes=2), 0, 1)]
    assert await connection.fetchval("SELECT count(*) FROM declared_swaps") == 0


async def noted(connection: asyncpg.Connection) -> list[tuple[datetime, int | None, int]]:
    return [tuple(row) for row in await connection.fetch("SELECT quarter, late, swaps FROM changes ORDER BY id")]
