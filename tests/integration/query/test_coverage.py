"""Who is expected to report: the same bucket has the same coverage, whatever the range and whoever is silent."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import asyncpg
import pytest

from telemetry.domains import Domain, load_domains
from telemetry.query.question import Asked, By, Question, understand
from telemetry.settings import Settings
from telemetry.store.devices import Device
from telemetry.upkeep.rounds import run_once
from tests.integration.query.asking import ask
from tests.integration.query.rows import City, Row

FIRST = datetime(2026, 10, 20, tzinfo=UTC)
DAY = timedelta(days=1)
NOW = FIRST + timedelta(days=8)
ALWAYS = Device("always", "lighting", zone="North", interval_s=900)
LATER = Device("later", "lighting", zone="North", interval_s=900)
DEAD = Device("dead", "lighting", zone="North", interval_s=1800)
NEVER = Device("never", "lighting", zone="South", interval_s=3600)
OTHER = Device("other", "lighting", zone="South", interval_s=3600)
VAGUE = Device("vague", "lighting", zone="West")
FOREIGN = Device("foreign", "energy", zone="South", interval_s=7200)
DEVICES = (ALWAYS, LATER, DEAD, NEVER, OTHER, VAGUE, FOREIGN)
REGISTERED = {
    "always": FIRST - DAY,
    "later": FIRST + 2 * DAY + timedelta(hours=5),
    "dead": FIRST - DAY,
    "never": FIRST + 3 * DAY + timedelta(hours=2),
    "other": FIRST - DAY,
    # As of a device whose history was imported.
    "vague": NOW + DAY,
    "foreign": FIRST - DAY,
}


@pytest.fixture(scope="module")
def lighting() -> Domain:
    return load_domains()["lighting"]


def made() -> Iterator[Row]:
    for device, first, last in (
        (ALWAYS, 0, 8 * 96),
        (LATER, 2 * 96 + 20, 8 * 96),
        (DEAD, 0, 96 + 50),
        (OTHER, 0, 8 * 96),
        (VAGUE, 5 * 96 + 3, 6 * 96),
        (FOREIGN, 4 * 96 + 8, 8 * 96),
    ):
        for step in range(first, last, int((device.interval_s or 900) / 900)):
            values = {"voltage_v": 230.0} if device is OTHER else {"power_w": 1.0, "voltage_v": 230.0}
            yield Row(FIRST + timedelta(minutes=15 * step), device, values)


async def filled(connection: asyncpg.Connection, settings: Settings) -> City:
    city = City(connection, "lighting", DEVICES)
    await city.register()
    await city.add(made())
    for name, at in REGISTERED.items():
        await connection.execute("UPDATE devices SET first_seen = $2 WHERE device_id = $1", name, at)
    await run_once(settings)
    return city


def question(domain: Domain, start: datetime, end: datetime, **asked: Any) -> Question:
    fixed = {"metric": ["power_w", "voltage_v"], "agg": ["count"], "coverage": True, "tz": "UTC", "fill": "null"}
    words = Asked(**{**fixed, **asked}, start=start.isoformat(), end=end.isoformat())
    return understand(domain, words, "Europe/Paris", NOW)


def expected(rows: Iterable[Row], asked: Question, edges: list[datetime]) -> dict[Any, float | None]:
    """Coverage by bucket, group and metric, straight from its definition."""
    rows = list(rows)
    rates: defaultdict[Any, list[tuple[datetime, float | None]]] = defaultdict(list)
    for device in DEVICES:
        if asked.zones and device.zone not in asked.zones:
            continue
        own = [row for row in rows if row.device is device]
        is_heard = any(row.time < asked.end for row in own)
        for metric in asked.metrics:
            times = [row.time for row in own if metric.name in row.values]
            if times and min(times) < asked.start - timedelta(hours=25):
                begin: datetime | None = edges[0]
            else:
                seen = [REGISTERED[device.device_id]] if device.domain == "lighting" else []
                begin = min((at for at in (*times, *seen) if at < asked.end), default=None)
            is_in_range = any(asked.start <= at < asked.end for at in times)
            is_expected = is_in_range or (
                device.domain == "lighting"
                and device.interval_s is not None
                and (any(at < asked.start for at in times) or not is_heard)
            )
            if is_expected and begin is not None:
                group = device.zone if asked.by is By.ZONE else None
                bucket = max(edge for edge in edges if edge <= max(begin, edges[0]))
                rates[group, metric.name].append((bucket, 1 / device.interval_s if device.interval_s else None))
    found: dict[Any, float | None] = {}
    for (group, metric_name), fleet in rates.items():
        for start, end in pairwise(edges):
            together = [rate for since, rate in fleet if since <= start]
            length = (min(end, asked.end) - max(start, asked.start)).total_seconds()
            samples = sum(
                max(start, asked.start) <= row.time < min(end, asked.end)
                for row in rows
                if metric_name in row.values
                and (asked.by is By.NONE or row.device.zone == group)
                and (not asked.zones or row.device.zone in asked.zones)
            )
            known = [rate for rate in together if rate is not None]
            is_known = together and len(known) == len(together)
            found[start, group, metric_name] = min(1.0, round(samples / (sum(known) * length), 4)) if is_known else None
    return found


async def covered(connection: asyncpg.Connection, asked: Question) -> dict[Any, float | None]:
    series = await ask(connection, asked)
    return {
        (series.plan.edges[point.bucket - 1], point.group, asked.metrics[point.metric].name): point.coverage
        for point in series.points
    }


@pytest.mark.asyncio
async def test_coverage_is_that_of_its_definition(
    connection: asyncpg.Connection, settings: Settings, lighting: Domain
) -> None:
    chance = random.Random(20261202)
    city = await filled(connection, settings)
    for _ in range(60):
        start = FIRST + timedelta(hours=chance.choice((0, 24, 30, 50, 96)), minutes=chance.choice((0, 0, 7)))
        end = min(NOW, start + timedelta(hours=chance.choice((3, 24, 70))))
        asked = question(
            lighting,
            *(start, end),
            window=chance.choice(("15m", "1h", "6h", "1d") if end - start < 2 * DAY else ("6h", "1d")),
            by=chance.choice(("none", "zone")),
            zone=chance.choice(((), ("North", "South"))),
        )
        series = await ask(connection, asked)
        wanted = expected(city.rows, asked, [*series.plan.edges])
        found = await covered(connection, asked)
        for key, value in found.items():
            assert value == pytest.approx(wanted.get(key)), (key, asked)


@pytest.mark.asyncio
async def test_day_has_the_same_coverage_in_every_range(
    connection: asyncpg.Connection, settings: Settings, lighting: Domain
) -> None:
    await filled(connection, settings)
    for by in ("none", "zone"):
        # Of the imported one, which no registry knew, only its days tell.
        asked = {"window": "1d", "by": by, "zone": ["North", "South"]}
        whole = await covered(connection, question(lighting, FIRST, NOW, **asked))
        for number in range(8):
            start = FIRST + number * DAY
            alone = await covered(connection, question(lighting, start, start + DAY, **asked))
            assert alone == {key: whole[key] for key in alone}
            assert alone


@pytest.mark.asyncio
async def test_silent_device_lowers_the_coverage_until_its_interval_is_taken_away(
    connection: asyncpg.Connection, settings: Settings, lighting: Domain
) -> None:
    await filled(connection, settings)
    asked = question(lighting, NOW - DAY, NOW, metric=["power_w"], window="1d", by="zone", zone=["North"])
    # Four and four values an hour came; two more should have.
    assert list((await covered(connection, asked)).values()) == [0.8]
    await connection.execute("UPDATE devices SET interval_s = NULL WHERE device_id = 'dead'")
    assert list((await covered(connection, asked)).values()) == [1.0]
