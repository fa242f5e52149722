"""What is looked for in all readings is found where it is, and no day is locked that cannot have it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from telemetry.query.devices import domains_with_readings
from telemetry.query.meter_swaps import indexes_around
from telemetry.settings import Settings
from telemetry.store.devices import Device
from telemetry.store.pool import QUESTIONS
from telemetry.upkeep.rounds import run_once
from tests.integration.query.rows import City, Row

DOMAINS = ("lighting", "parking", "waste")
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=40)
METERS = tuple(Device(name, "lighting") for name in ("meter-1", "meter-2", "meter-3"))

LOCKED = """
SELECT DISTINCT i.inhrelid FROM pg_locks AS l JOIN pg_inherits AS i ON i.inhrelid = l.relation
JOIN pg_class AS c ON c.oid = i.inhparent
WHERE l.pid = pg_backend_pid() AND c.relkind IN ('p', 'r') AND c.relname LIKE '%\\_readings'
"""


@pytest_asyncio.fixture
async def asking(connection: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """A connection that plans as those of questions do."""
    for name, value in QUESTIONS.items():
        await connection.execute(f"SET {name} = {value}")
    yield connection


@pytest_asyncio.fixture
async def city(connection: asyncpg.Connection) -> City:
    made = City(connection, "lighting", METERS)
    await made.register()
    return made


def at(hours: float, meter: int = 0, **values: float) -> Row:
    return Row(NOON + timedelta(hours=hours), METERS[meter], values or {"energy_kwh": 1.0})


@pytest.mark.asyncio
async def test_readings_are_found_before_and_after_they_are_rolled_up(
    asking: asyncpg.Connection, city: City, settings: Settings
) -> None:
    await city.add([at(0), at(1, 1)])
    for _ in range(2):
        for device, wanted in (("meter-1", ["lighting"]), ("meter-3", []), ("nobody", [])):
            assert await domains_with_readings(asking, device, DOMAINS, set()) == wanted
        await run_once(settings)


@pytest.mark.asyncio
async def test_second_look_finds_what_was_committed_since_the_first(
    asking: asyncpg.Connection, city: City, settings: Settings
) -> None:
    looked: set[int] = set()
    await city.add([at(0, 1)])
    assert await domains_with_readings(asking, "meter-1", DOMAINS, looked) == []
    await city.add([at(0)])
    assert await domains_with_readings(asking, "meter-1", DOMAINS, set(looked)) == ["lighting"]
    await run_once(settings)
    assert await domains_with_readings(asking, "meter-1", DOMAINS, looked) == ["lighting"]


@pytest.mark.asyncio
async def test_device_whose_raw_readings_are_gone_has_readings(
    asking: asyncpg.Connection, city: City, settings: Settings
) -> None:
    await city.add([at(0)])
    await run_once(settings)
    await asking.fetch("SELECT telemetry_drop_partitions('lighting', now() - interval '20 days')")
    assert await asking.fetchval("SELECT count(*) FROM lighting_readings") == 0
    assert await domains_with_readings(asking, "meter-1", DOMAINS, set()) == ["lighting"]


@pytest.mark.asyncio
async def test_only_days_with_listed_quarters_are_locked(
    asking: asyncpg.Connection, city: City, settings: Settings
) -> None:
    """A lock for each day of five years, and one for its index, is more than a server has."""
    await city.add([at(24 * day) for day in range(30)])
    await run_once(settings)
    await city.add([at(24 * 3, 1), at(24 * 20, 1)])
    async with asking.transaction():
        assert await domains_with_readings(asking, "meter-3", DOMAINS, set()) == []
        assert len(await asking.fetch(LOCKED)) <= 4
    async with asking.transaction():
        before, after = await indexes_around(
            asking, "meter-1", "lighting", "energy_kwh", NOON + timedelta(days=10, hours=1)
        )
        assert before == (NOON + timedelta(days=10), 1.0)
        assert after == (NOON + timedelta(days=11), 1.0)
        assert len(await asking.fetch(LOCKED)) <= 8


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(3))
async def test_readings_next_to_an_instant_are_those_among_all(
    asking: asyncpg.Connection, city: City, settings: Settings, seed: int
) -> None:
    """Whether rolled up or late, hours or weeks away, or beside other swaps."""
    chance = random.Random(seed)
    hours = chance.sample(range(24 * 35), 40)
    rows = [
        at(hour, chance.randrange(2), **{chance.choice(["energy_kwh", "power_w"]): float(number)})
        for number, hour in enumerate(hours)
    ]
    await city.add(rows[:30])
    await run_once(settings)
    await city.add(rows[30:])
    swaps = sorted(NOON + timedelta(hours=hour + 0.5) for hour in chance.sample(range(24 * 35), 2))
    await asking.execute(
        """
        INSERT INTO meter_swaps (device_key, domain, metric, time, start_index)
        SELECT device_key, 'lighting', 'energy_kwh', unnest($1::timestamptz[]), 0 FROM devices
        WHERE device_id = 'meter-1'
        """,
        swaps,
    )
    readings = sorted(
        (row.time, row.values["energy_kwh"]) for row in rows if row.device is METERS[0] and "energy_kwh" in row.values
    )
    instants = [NOON + timedelta(hours=chance.choice(hours) + chance.choice([-1, 0, 0.5])) for _ in range(20)]
    for instant in [*instants, *swaps, NOON - timedelta(days=5), NOON + timedelta(days=39)]:
        since = max((swap for swap in swaps if swap < instant), default=NOON - timedelta(days=99))
        until = min((swap for swap in swaps if swap > instant), default=NOON + timedelta(days=99))
        wanted = (
            max((each for each in readings if since <= each[0] < instant), default=None),
            min((each for each in readings if instant <= each[0] < until), default=None),
        )
        assert await indexes_around(asking, "meter-1", "lighting", "energy_kwh", instant) == wanted
