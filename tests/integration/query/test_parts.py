"""An answer that is read part by part is the one that is read at once, whatever is asked."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from telemetry.domains import Domain, load_domains
from telemetry.errors import TooLarge
from telemetry.query.answering import Streaming, answer
from telemetry.query.database import snapshot
from telemetry.query.question import Asked, Question, understand
from telemetry.query.series import Series
from telemetry.settings import Settings
from telemetry.store.devices import Device
from telemetry.upkeep.rounds import run_once
from tests.integration.query.asking import DEVICES, ask, ask_in_parts
from tests.integration.query.rows import City, Row

NIGHT = datetime(2026, 10, 24, 18, tzinfo=UTC)
"""Seven hours before the clocks of Paris go back."""
NOW = NIGHT + timedelta(days=3)
GUEST = Device("guest", "energy", zone="South", interval_s=600)
QUESTIONS = 40
AGGREGATES = {
    "power_w": ("avg", "max", "p90", "stddev", "time_avg", "integral"),
    "energy_kwh": ("increase", "rate", "last"),
    "lamp_on": ("share", "count"),
    "fault": ("share", "duration", "last"),
}


@pytest.fixture(scope="module")
def lighting() -> Domain:
    return load_domains()["lighting"]


@pytest.mark.asyncio
async def test_parts_are_the_whole(connection: asyncpg.Connection, settings: Settings, lighting: Domain) -> None:
    chance = random.Random(20261129)
    city = City(connection, "lighting", [*DEVICES, GUEST])
    await city.register()
    await city.add(made(chance, city))
    divided = 0
    for rolled_up in (False, True):
        if rolled_up:
            await run_once(settings)
        for _ in range(QUESTIONS):
            question = any_question(chance, lighting)
            whole = await ask(connection, question)
            parts = await ask_in_parts(connection, question, chance.choice((1, 7, 50)))
            assert told(parts) == told(whole)
            assert parts.settled_until == whole.settled_until
            divided += len(whole.points) > 50
    assert divided > QUESTIONS // 2


@pytest.mark.asyncio
async def test_few_rows_of_many_that_were_possible_are_a_whole_answer(
    connection: asyncpg.Connection, lighting: Domain
) -> None:
    city = City(connection, "lighting", DEVICES)
    await city.register()
    await city.add(Row(NIGHT + timedelta(hours=hour), DEVICES[0], {"energy_kwh": float(hour)}) for hour in range(4))
    question = asked(lighting, metric=["energy_kwh"], by="device", window="15m")
    async with snapshot(connection, timedelta(seconds=30)) as reading:
        for at_once, is_whole in ((12, False), (13, True)):
            found = await answer(reading, question, 500_000, Streaming(at_once, 500_000))
            assert (found.rest is None) is is_whole
            assert sum([len(part.points) async for part in found.parts()]) == 13


@pytest.mark.asyncio
async def test_bucket_that_is_too_large_for_the_memory_is_refused(
    connection: asyncpg.Connection, lighting: Domain
) -> None:
    await City(connection, "lighting", DEVICES).register()
    question = asked(lighting, metric=["energy_kwh"], by="device", agg=["increase", "rate"])
    with pytest.raises(TooLarge, match="up to 8 values in each bucket, and 7 are allowed"):
        await ask_in_parts(connection, question, 1, max_values=7)


def made(chance: random.Random, city: City) -> Iterator[Row]:
    """Readings with silences; counters that fall now and then."""
    for number, device in enumerate(city.devices):
        index = 1000.0 * number
        for minute in range(-3 * 1440, 2 * 1440, 10 if number < 3 else 300):
            index = chance.choice((index, index + 1.5, index + 1.5, 2.0 if chance.random() < 0.02 else index))
            if minute // 400 % 3 or number == 1:
                values: dict[str, Any] = {"energy_kwh": index, "power_w": chance.uniform(0, 100)}
                values |= {"lamp_on": chance.random() < 0.5, "fault": chance.choice(("none", "lamp"))}
                yield Row(NIGHT + timedelta(minutes=minute), device, values)


def any_question(chance: random.Random, domain: Domain) -> Question:
    names = chance.sample(tuple(AGGREGATES), chance.randint(1, 2))
    start = NIGHT + timedelta(hours=chance.uniform(-60, 10))
    common = [each for each in AGGREGATES[names[0]] if all(each in AGGREGATES[name] for name in names)]
    return asked(
        domain,
        metric=names if common else names[:1],
        agg=common or chance.sample(AGGREGATES[names[0]], 2),
        start=start.isoformat(),
        end=(start + timedelta(hours=chance.uniform(5, 60))).isoformat(),
        window=chance.choice(("15m", "15m", "1h", "40m", "1d")),
        tz=chance.choice(("Europe/Paris", "Asia/Kolkata")),
        by=chance.choice(("none", "device", "zone")),
        zone=chance.choice(((), ("North",))),
        max_gap=chance.choice((None, "3h")),
        coverage=chance.random() < 0.5,
        min_coverage=chance.choice((None, 0.7)),
    )


def asked(domain: Domain, **given: Any) -> Question:
    form = {"start": NIGHT.isoformat(), "end": (NIGHT + timedelta(days=1)).isoformat(), "window": "1h", **given}
    return understand(domain, Asked(**form), "Europe/Paris", NOW)


def told(found: Series) -> list[Any]:
    """What the rows say, numbers up to the order in which they were added."""
    return [
        (*point[:3], [_about(each) for each in point.values], point.samples, point.coverage, point.quality)
        for point in found.points
    ]


def _about(value: Any) -> Any:
    if isinstance(value, dict):
        return {word: _about(part) for word, part in value.items()}
    return pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value
