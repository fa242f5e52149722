"""Pages of raw rows: together they are all rows, in order, whichever way and however few at a time."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from telemetry.domains import load_domains
from telemetry.query.readings import Place, Wanted, page
from telemetry.store import devices as registry
from tests.integration.query.asking import DEVICES
from tests.integration.query.rows import City, Row

LIGHTING = load_domains()["lighting"]
NOON = datetime(2026, 10, 24, 12, tzinfo=UTC)


@pytest.mark.asyncio
async def test_pages_are_the_range(connection: asyncpg.Connection) -> None:
    """Many rows of one instant, many in one day, and weeks without any."""
    chance = random.Random(20261130)
    city = City(connection, "lighting", DEVICES)
    await city.register()
    instants = [NOON + timedelta(minutes=chance.randint(0, 2000)) for _ in range(30)]
    instants += [NOON + timedelta(days=day) for day in (-40, -39, -11, 5, 6, 60)]
    there = {(at, device.device_id): device for at in instants for device in chance.sample(DEVICES, 3)}
    await city.add(Row(at, device, {"power_w": 1.0}) for (at, _), device in there.items())
    keys = await registry.keys(connection)
    rows = sorted((row.time, keys[row.device.device_id]) for row in city.rows)
    for _ in range(40):
        start = NOON + timedelta(days=chance.choice((-50, -39, -20, -1, 0, 5)))
        end = start + timedelta(days=chance.choice((0.5, 2, 30, 200)))
        devices = chance.choice(((), (), ("lamp-1", "lamp-3")))
        chosen = {keys[each] for each in devices} or set(keys.values())
        backwards = chance.random() < 0.5
        wanted = Wanted(LIGHTING, [LIGHTING.metrics["power_w"]], start, end, devices, newest_first=backwards)
        wanted = replace(wanted, limit=chance.choice((1, 3, 1000)))
        inside = [row for row in rows if start <= row[0] < end and row[1] in chosen]
        assert await all_pages(connection, wanted) == (inside[::-1] if backwards else inside)


async def all_pages(connection: asyncpg.Connection, wanted: Wanted) -> list[tuple[datetime, int]]:
    found: list[tuple[datetime, int]] = []
    while True:
        rows = await page(connection, wanted)
        assert len(rows) <= wanted.limit
        found += [(row["time"], row["device_key"]) for row in rows]
        if len(rows) < wanted.limit:
            return found
        wanted = replace(wanted, after=Place(*found[-1]))
