"""The harness itself: databases of one's own, on every engine that the server offers, and a broker that listens."""

from __future__ import annotations

import asyncio

import aiomqtt
import asyncpg
import pytest

from telemetry.settings import Settings
from telemetry.store.engine import Engine
from telemetry.store.migrate import check, status
from tests.support.databases import Databases
from tests.support.sql import execute, fetch_row


@pytest.mark.asyncio
async def test_database_is_migrated_for_its_engine(settings: Settings, engine: Engine) -> None:
    recorded, migrations = await status(settings)
    assert recorded == engine
    assert {migration.state for migration in migrations} == {"applied"}
    assert await check(settings) == []


@pytest.mark.asyncio
@pytest.mark.parametrize("attempt", ["first", "second"])
async def test_database_is_not_shared_between_tests(connection: asyncpg.Connection, attempt: str) -> None:
    assert await connection.fetchval("SELECT count(*) FROM devices") == 0
    await connection.execute("INSERT INTO devices (device_id, domain) VALUES ($1, 'waste')", attempt)


def test_database_without_migrations_has_no_tables(empty_database_url: str) -> None:
    tables = fetch_row(empty_database_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    assert tables["count"] == 0


def test_databases_are_cloned_side_by_side_and_dropped(databases: Databases, engine: Engine) -> None:
    with databases.migrated(engine) as one, databases.migrated(engine) as other:
        execute(one, "INSERT INTO devices (device_id, domain) VALUES ('a', 'waste')")
        assert fetch_row(other, "SELECT count(*) FROM devices")["count"] == 0
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        fetch_row(one, "SELECT 1")


@pytest.mark.asyncio
async def test_broker_hands_a_message_on(settings: Settings) -> None:
    topic = f"{settings.mqtt.topic_root}/waste/bin-1"
    async with aiomqtt.Client(settings.mqtt.host, settings.mqtt.port) as client:
        await client.subscribe(topic, qos=1)
        await client.publish(topic, b"{}", qos=1)
        async with asyncio.timeout(60):
            message = await anext(aiter(client.messages))
    assert message.payload == b"{}"
