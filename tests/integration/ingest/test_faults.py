"""What goes wrong around ingest: nothing is lost, nothing doubled, and it goes on by itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from telemetry.demo.mosquitto import LocalMosquitto
from telemetry.settings import Settings, load_settings
from telemetry.store.engine import Engine
from telemetry.store.migrate import migrate
from telemetry.store.pool import connection as connected
from tests.support.broker_fixtures import MosquittoFactory
from tests.support.database_fixtures import PostgresFactory
from tests.support.gateway import gateway
from tests.support.ingesting import ingesting, outcomes, received

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def reading(number: int) -> dict[str, Any]:
    """The reading of that number, of one of seven devices; no two alike."""
    return {"time": (START + timedelta(milliseconds=number)).isoformat(), "power_w": float(number % 9_000)}


async def publish(settings: Settings, numbers: range) -> None:
    """Publishes readings, several in flight."""
    async with gateway(settings) as sender:
        for first in range(numbers.start, numbers.stop, 8):
            many = range(first, min(first + 8, numbers.stop))
            await asyncio.gather(*(sender.send(f"lighting/lamp-{n % 7}", reading(n)) for n in many))


async def stored(database: asyncpg.Connection) -> int:
    """Rows in the table."""
    count: int = await database.fetchval("SELECT count(*) FROM lighting_readings")
    return count


async def start_process(settings: Settings, engine: Engine) -> asyncio.subprocess.Process:
    """`telemetry ingest` as a process that can be killed."""
    environment = {
        **os.environ,
        "TELEMETRY_DATABASE__URL": settings.database.url.get_secret_value(),
        "TELEMETRY_DATABASE__ENGINE": engine,
        "TELEMETRY_MQTT__PORT": str(settings.mqtt.port),
        "TELEMETRY_MQTT__TOPIC_ROOT": settings.mqtt.topic_root,
        "TELEMETRY_MQTT__CLIENT_ID": settings.mqtt.client_id,
        "TELEMETRY_INGEST__METRICS_PORT": "0",
        "TELEMETRY_INGEST__BATCH_AGE": "10ms",
    }
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "telemetry", "ingest", env=environment)


@pytest.mark.asyncio
async def test_ingest_killed_under_load_loses_and_doubles_nothing(
    settings: Settings, engine: Engine, connection: asyncpg.Connection
) -> None:
    total = 4_000
    async with ingesting(settings):
        pass  # the broker knows the session from now on, and keeps what comes
    publishing = asyncio.create_task(publish(settings, range(total)))
    kills = 0
    while not publishing.done() or kills < 3:
        process = await start_process(settings, engine)
        before = await stored(connection)
        for _ in range(500):
            if await stored(connection) > before or (publishing.done() and before == total):
                break
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        kills += 1
    await publishing
    async with ingesting(settings):
        for _ in range(1_000):
            if await stored(connection) == total:
                break
            await asyncio.sleep(0.02)
    assert await stored(connection) == total
    found = await outcomes(connection)
    assert found["stored"] == total
    assert found["received"] == total + found["duplicate"]


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["kill", "immediate"])
async def test_database_that_dies_and_returns_gets_every_reading_once(
    settings: Settings, engine: Engine, postgres_factory: PostgresFactory, end: str
) -> None:
    server = postgres_factory()
    server.create_database("faults")
    mine = load_settings(overrides={"database.url": server.url("faults"), "database.engine": engine})
    settings = settings.model_copy(update={"database": mine.database})
    await migrate(settings)
    async with ingesting(settings):
        await publish(settings, range(500))
        publishing = asyncio.create_task(publish(settings, range(500, 2_000)))
        await asyncio.sleep(0.1)
        stop: Callable[[], None] = server.kill if end == "kill" else lambda: server.stop("immediate")
        await asyncio.to_thread(stop)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(server.start)
        await publishing
        async with connected(settings, "test") as database:
            for _ in range(1_000):
                if await stored(database) == 2_000:
                    break
                await asyncio.sleep(0.02)
            found = await outcomes(database)
            assert found["stored"] == await stored(database) == 2_000
            assert found["received"] == 2_000 + found["duplicate"]


@pytest.mark.asyncio
async def test_broker_that_restarts_with_its_queue_loses_nothing(
    settings: Settings, connection: asyncpg.Connection, mosquitto_factory: MosquittoFactory
) -> None:
    broker: LocalMosquitto = mosquitto_factory()
    settings = settings.model_copy(update={"mqtt": settings.mqtt.model_copy(update={"port": broker.port})})
    async with ingesting(settings):
        await publish(settings, range(300))
        await asyncio.to_thread(broker.stop)
        await asyncio.to_thread(broker.start)
        await publish(settings, range(300, 600))
        for _ in range(1_000):
            if await stored(connection) == 600:
                break
            await asyncio.sleep(0.02)
    found = await outcomes(connection)
    assert found["stored"] == await stored(connection) == 600


@pytest.mark.asyncio
async def test_table_that_is_locked_delays_but_loses_nothing(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    async with ingesting(settings):
        async with connection.transaction():
            await connection.execute("LOCK TABLE lighting_readings IN ACCESS EXCLUSIVE MODE")
            await publish(settings, range(100))
            await asyncio.sleep(0.5)
        assert (await received(connection, 100))["stored"] == 100


@pytest.mark.asyncio
async def test_lost_answer_of_a_commit_does_not_count_twice(settings: Settings, connection: asyncpg.Connection) -> None:
    """The server process is terminated at random moments, some of them between COMMIT and its answer."""
    async with ingesting(settings):
        publishing = asyncio.create_task(publish(settings, range(3_000)))
        while not publishing.done():
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'telemetry ingest' AND datname = current_database()"
            )
            await asyncio.sleep(0.07)
        await publishing
        found = await received(connection, 3_000)
    assert found == {"received": 3_000, "stored": 3_000}
    assert await stored(connection) == 3_000


@pytest.mark.asyncio
async def test_fault_of_ours_halts_and_acknowledges_nothing(
    settings: Settings, engine: Engine, connection: asyncpg.Connection
) -> None:
    process = await start_process(settings, engine)
    async with gateway(settings) as sender:
        for _ in range(200):
            await sender.send("waste/bin", {"time": START.isoformat(), "fill_level_pct": 1.0})
            if await connection.fetchval("SELECT count(*) FROM waste_readings"):
                break
            await asyncio.sleep(0.05)
        await connection.execute("ALTER TABLE waste_readings RENAME COLUMN weight_kg TO weight")
        await sender.send("waste/bin-2", {"time": START.isoformat(), "fill_level_pct": 2.0})
        assert await asyncio.wait_for(process.wait(), 10) == 1
    await connection.execute("ALTER TABLE waste_readings RENAME COLUMN weight TO weight_kg")
    async with ingesting(settings):
        for _ in range(500):
            if await connection.fetchval("SELECT count(*) FROM waste_readings") == 2:
                break
            await asyncio.sleep(0.02)
    assert await connection.fetchval("SELECT count(*) FROM waste_readings") == 2
    assert json.loads(await connection.fetchval("SELECT json_agg(imbalance) FROM ledger_hourly")) == [0]
