"""Same answer, only faster: whatever roll-ups a plan uses, the answer is the one that the raw rows give."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from telemetry.domains import Domain, load_domains
from telemetry.query.question import Asked, Question, understand
from telemetry.settings import Settings
from telemetry.upkeep.rounds import run_once
from tests.integration.query.asking import DEVICES, ask
from tests.integration.query.rows import City, Row, answered, assert_same, expected

SPRING, AUTUMN = datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)
HALF_HOUR_AUTUMN = datetime(2026, 4, 4, 6, tzinfo=UTC)
"""In Lord Howe the clocks go back by half an hour on 5 April."""
NO_MIDNIGHT = datetime(2026, 4, 23, 6, tzinfo=UTC)
"""In Cairo 24 April begins at one o'clock."""
AROUND = (SPRING, AUTUMN, HALF_HOUR_AUTUMN, NO_MIDNIGHT)
NUMBERS = ("avg", "min", "max", "sum", "count", "first", "last")
STATES = ("count", "first", "last")
WINDOWS = ("1d", "1w", "15m", "30m", "1h", "2h", "6h", "12h", "1d", "1w", "1mo", "1y", "45m", "96m", "5m")
ZONES = (
    "Europe/Paris",
    "UTC",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Cairo",
)
QUESTIONS = 60


@pytest.fixture(scope="module")
def lighting() -> Domain:
    return load_domains()["lighting"]


@pytest.mark.asyncio
async def test_answers_equal_the_raw_rows_whatever_the_roll_ups_show(
    connection: asyncpg.Connection, settings: Settings, lighting: Domain
) -> None:
    chance = random.Random(20261124)
    city = City(connection, "lighting", DEVICES)
    await city.register()
    sources: Counter[str] = Counter()
    now = datetime.now(UTC)
    for share in (0.7, 0.01, 0.001):
        await city.add(made(chance, share, now, city))
        for refreshed in (False, True):
            if refreshed:
                await run_once(settings)
            for _ in range(QUESTIONS):
                question = asked(chance, lighting, now)
                series = await ask(connection, question)
                sources[series.plan.source] += 1
                assert_same(answered(series), expected(city.rows, question))
    used = Counter(relation for source, times in sources.items() for relation in source.split("+") * times)
    assert set(used) == {"lighting_readings", "lighting_15m", "lighting_1h", "lighting_1d"}
    assert min(used.values()) > QUESTIONS // 4


@pytest.mark.asyncio
async def test_days_stay_in_sight_when_a_later_one_is_refreshed(
    connection: asyncpg.Connection, settings: Settings, lighting: Domain
) -> None:
    city = City(connection, "lighting", DEVICES[:1])
    await city.register()
    now = datetime.now(UTC)
    hours = [now - timedelta(hours=hour) for hour in range(120)]
    await city.add(Row(at, DEVICES[0], {"power_w": 1.0}) for at in hours)
    await run_once(settings)
    await city.add([Row(now - timedelta(hours=24, minutes=1), DEVICES[0], {"power_w": 2.0})])
    await run_once(settings)
    question = understand(lighting, Asked(["power_w"], ["sum"], "-7d", "now", "1d"), "Europe/Paris", now)
    series = await ask(connection, question)
    assert "lighting_1d" in series.plan.source
    assert_same(answered(series), expected(city.rows, question))


def made(chance: random.Random, share: float, now: datetime, city: City) -> Iterator[Row]:
    """Readings with gaps around the changes of the clocks and around now, not all metrics in each."""
    there = {(row.time, row.device.device_id) for row in city.rows}
    for start, hours in (
        (SPRING, 40),
        (AUTUMN, 60),
        (HALF_HOUR_AUTUMN, 40),
        (NO_MIDNIGHT, 40),
        (now - timedelta(hours=60), 60),
    ):
        for device in city.devices:
            for minute in range(0, hours * 60, chance.choice((5, 11, 15))):
                at = start + timedelta(minutes=minute, seconds=chance.choice((0, 0, 13)))
                is_gap = minute % 900 > 780
                if at < now and not is_gap and chance.random() < share and (at, device.device_id) not in there:
                    yield Row(at, device, values(chance))


def values(chance: random.Random) -> dict[str, float | bool | str]:
    measured: dict[str, float | bool | str] = {
        "power_w": chance.uniform(0, 100),
        "temperature_c": chance.uniform(-20, 20),
        "energy_kwh": chance.uniform(0, 1e6),
        "lamp_on": chance.random() < 0.5,
        "fault": chance.choice(("none", "lamp", "supply")),
    }
    return {name: value for name, value in measured.items() if chance.random() < 0.8}


def asked(chance: random.Random, domain: Domain, now: datetime) -> Question:
    """Any question, its ends on round times as often as not."""
    states = chance.random() < 0.2
    window = chance.choice(WINDOWS)
    around = chance.choice((*AROUND, now - timedelta(hours=60)))
    start = around + timedelta(hours=chance.uniform(-30, 40 if window[-1] in "mh" else 0))
    end = start + timedelta(
        hours=chance.choice((1, 30, 70) if window[-1] in "mh" else (70, 200)) * chance.uniform(1, 2)
    )
    if chance.random() < 0.5:
        step = chance.choice((timedelta(minutes=15), timedelta(hours=1), timedelta(hours=24)))
        start, end = (at - (at - datetime(1970, 1, 1, tzinfo=UTC)) % step for at in (start, end))
    start, end = (min(at, now + timedelta(hours=1)) for at in (start, end))
    return understand(
        domain,
        Asked(
            metric=chance.sample(("lamp_on", "fault") if states else ("power_w", "temperature_c", "energy_kwh"), 2),
            agg=chance.sample(STATES if states else NUMBERS, chance.randint(1, 3)),
            start=start.isoformat(),
            end=max(end, start + timedelta(minutes=1)).isoformat(),
            window=window,
            tz="Africa/Cairo" if around == NO_MIDNIGHT else chance.choice(("Europe/Paris", "Europe/Paris", *ZONES)),
            by=chance.choice(("none", "device", "zone")),
            device=chance.sample([device.device_id for device in DEVICES], chance.choice((0, 0, 2))),
            zone=chance.sample(("North", "South"), chance.choice((0, 0, 1))),
        ),
        "Europe/Paris",
        now,
    )
