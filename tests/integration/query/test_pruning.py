"""What a statement touches of a database that was kept for long: not every day that there ever was.

Where the planner cannot tell which days a statement needs, it plans, locks and opens each of five years' partitions.
Locks can be counted, on any machine.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from telemetry.domains import load_domains
from telemetry.query import latest, readings
from telemetry.query.answering import answer
from telemetry.query.database import Connection, snapshot
from telemetry.query.meter_swaps import indexes_around
from telemetry.query.question import Asked, understand
from telemetry.settings import Settings, load_settings
from telemetry.store import devices as registry
from telemetry.store import writer
from telemetry.store.batch import Batch, Part, Readings
from telemetry.store.devices import Device
from telemetry.store.engine import Engine
from telemetry.store.layout import Layout
from telemetry.store.pool import connection as connected
from telemetry.upkeep import changes
from tests.support.databases import Databases

LIGHTING = load_domains()["lighting"]
LAYOUT = Layout.of(LIGHTING)
METRICS = [*LIGHTING.metrics.values()]
NOW = datetime(2026, 11, 20, 9, 5, tzinfo=UTC)
DAYS = {"postgres": 200, "timescaledb": 120}
"""Each takes two locks, its index included. Chunks take longer to make than partitions."""
MOST = 200
"""Locks on relations that a transaction may hold: those of two months of days, and some more."""
LAMPS = [Device(f"lamp-{number}", "lighting", zone="North", interval_s=6 * 3600) for number in range(4)]
FILL = """
INSERT INTO lighting_readings (time, received_at, device_key, power_w, energy_kwh, lamp_on)
SELECT at, at, device_key, 40, extract(epoch FROM at - $1) / 3600, true
FROM devices, generate_series($1, $2, interval '6 hours') AS at
WHERE device_id <> 'lamp-3' OR at < $1 + interval '20 days'
"""
QUESTIONS_ASKED: dict[str, dict[str, Any]] = {
    "rows": {"metric": ["power_w"], "coverage": True},
    "filled": {"metric": ["power_w"], "fill": "locf", "max_gap": "2d"},
    "spread": {"metric": ["power_w"], "agg": ["p95", "stddev"]},
    "time": {"metric": ["power_w"], "agg": ["time_avg"]},
    "state": {"metric": ["lamp_on"], "agg": ["share"]},
    "change": {"metric": ["energy_kwh"], "agg": ["increase"]},
    "change, cut": {"metric": ["energy_kwh"], "agg": ["increase"], "window": "10m"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kept(databases: Databases, engine: Engine) -> AsyncIterator[Settings]:
    """Settings for a database with some hundred days of readings; `lamp-3` fell silent long ago."""
    with databases.migrated(engine) as url:
        settings = load_settings(overrides={"database.url": url, "database.engine": engine})
        async with connected(settings, "test") as connection:
            await fill(connection, engine)
        yield settings


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def old(kept: Settings) -> AsyncIterator[asyncpg.Connection]:
    """A connection to that database."""
    async with connected(kept, "test") as connection:
        yield connection


async def fill(connection: asyncpg.Connection, engine: Engine) -> None:
    """As it is when upkeep was there until a moment ago."""
    first = NOW.replace(hour=0, minute=0) - timedelta(days=DAYS[engine])
    days = [(first + timedelta(days=number)).date() for number in range(DAYS[engine] + 4)]
    await registry.upsert(connection, LAMPS)
    await connection.execute("SELECT telemetry_ensure_partitions('lighting', $1)", days)
    await connection.execute(FILL, first, NOW)
    if engine == "postgres":
        await connection.execute("CALL telemetry_refresh_roll_ups('lighting', $1, $2)", first, NOW)
    else:
        for width in ("15m", "1h", "1d"):
            await connection.execute(f"CALL refresh_continuous_aggregate('lighting_{width}', NULL, NULL)")
    await connection.execute("CALL telemetry_refresh_counters('lighting', $1, $2)", first, NOW)
    await connection.execute("INSERT INTO late_ranges (domain, bucket) VALUES ('lighting', '2026-11-20 09:00Z')")


async def assert_few_locks(connection: Connection) -> None:
    found = await connection.fetchval(
        "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'"
    )
    assert 0 < found < MOST


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("devices", [(), ("lamp-1",), ("lamp-3",)], ids=["all", "one", "silent"])
@pytest.mark.parametrize(("start", "end"), [("-2d", "now"), ("-50d", "-48d")], ids=["recent", "former"])
@pytest.mark.parametrize("asked", QUESTIONS_ASKED.values(), ids=QUESTIONS_ASKED)
async def test_series(
    old: asyncpg.Connection, asked: dict[str, Any], start: str, end: str, devices: tuple[str, ...]
) -> None:
    question = understand(LIGHTING, Asked(**asked, start=start, end=end, device=devices), "Europe/Paris", NOW)
    async with snapshot(old, timedelta(seconds=60)) as reading:
        await answer(reading, question, 500_000)
        await assert_few_locks(reading)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("devices", [(), ("lamp-1",)], ids=["all", "one"])
async def test_latest(old: asyncpg.Connection, devices: tuple[str, ...]) -> None:
    """Of metrics that no newest reading has."""
    wanted = latest.Wanted(LIGHTING, METRICS, NOW - timedelta(days=7), devices)
    async with snapshot(old, timedelta(seconds=60)) as reading:
        assert [block async for block in latest.blocks(reading, wanted)]
        await assert_few_locks(reading)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("devices", [(), ("lamp-1",)], ids=["all", "one"])
@pytest.mark.parametrize("newest_first", [False, True])
async def test_readings(old: asyncpg.Connection, devices: tuple[str, ...], newest_first: bool) -> None:
    """A page of a range that has all there is."""
    start, end = NOW - timedelta(days=DAYS["timescaledb"] - 1), NOW
    wanted = readings.Wanted(LIGHTING, METRICS, start, end, devices, newest_first=newest_first, limit=10)
    async with snapshot(old, timedelta(seconds=60)) as reading:
        assert len(await readings.page(reading, wanted)) == 10
        await assert_few_locks(reading)


@pytest.mark.asyncio(loop_scope="module")
async def test_noting_changes(old: asyncpg.Connection) -> None:
    """Again and again: the server keeps no plan for all times."""
    quarters = [NOW.replace(minute=0) - timedelta(days=ago) for ago in (3, 2)]
    transaction = old.transaction()
    await transaction.start()
    for _ in range(8):
        await changes.note(old, "lighting", quarters, NOW)
    await assert_few_locks(old)
    await transaction.rollback()


@pytest.mark.asyncio(loop_scope="module")
async def test_completing_readings(kept: Settings, old: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten batches, one after the other, each with a value that a reading lacked."""
    settled = getattr(writer, "store_carefully")  # noqa: B009 - it is imported there, not exported
    asked = 0

    async def counted(database: asyncpg.Connection, batch: Batch) -> Any:
        nonlocal asked
        asked += 1
        found = await settled(database, batch)
        await assert_few_locks(database)
        return found

    monkeypatch.setattr(writer, "store_carefully", counted)
    keys = await registry.keys(old)
    under_test = writer.Writer(kept, "worker", lambda: None)
    rows = await old.fetch("SELECT time FROM lighting_readings WHERE device_key = $1 LIMIT 10", keys["lamp-1"])
    for at in (round(row["time"].timestamp()) * 1_000_000 for row in rows):
        made = Batch(0, 1, round(NOW.timestamp()) * 1_000_000)
        made.received["lighting"] = 1
        readings_of = made.readings["lighting"] = Readings(LAYOUT)
        source = Part("city/v1/lighting/lamp-1", b"{}", 0)
        readings_of.add((at, made.received_us, keys["lamp-1"], LAYOUT.shape(("voltage_v",)), source, 230.0))
        counts = await under_test.write(made)
        assert counts["lighting", "merged"] == 1
    await under_test.close()
    assert asked == 10


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("ago", [0, 50])
async def test_meter_swap(old: asyncpg.Connection, ago: int) -> None:
    """The look at the readings that it must agree with."""
    at = NOW - timedelta(days=ago, minutes=30)
    async with snapshot(old, timedelta(seconds=60)) as reading:
        before, after = await indexes_around(reading, "lamp-1", "lighting", "energy_kwh", at)
        assert before is not None
        assert after is not None or not ago
        await assert_few_locks(reading)
