"""The QoS that the settings ask for: in every session, at a real broker, to the row."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
import pytest
from pydantic import JsonValue

from telemetry.demo import http
from telemetry.ingest import assembly
from telemetry.settings import Settings
from tests.integration.ingest.test_former_sessions import forgotten, on_record, subscribed
from tests.integration.ingest.test_workers import VALUES, reading, require_each_once, stored
from tests.support.broker_fixtures import MosquittoFactory
from tests.support.gateway import gateway
from tests.support.ingesting import PATIENCE_S, ingesting, received
from tests.support.supervised import supervised

SAYS_ALL = {"log_type": "all"}


def changed(settings: Settings, **mqtt: Any) -> Settings:
    """The same with other settings of the section `mqtt`."""
    return settings.model_copy(update={"mqtt": settings.mqtt.model_copy(update=mqtt)})


async def publish(settings: Settings, count: int, qos: int) -> None:
    """Publishes so many readings, in turn of the domains."""
    domains = list(VALUES)
    async with gateway(settings) as sender:
        for number in range(count):
            domain = domains[number % 4]
            await sender.send(f"{domain}/{domain}-{number % 3}", reading(domain, number), qos)


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
@pytest.mark.parametrize(("share", "workers", "sessions"), [("topics", 3, 5), ("broker", 2, 2)])
async def test_sessions_of_all_workers_ask_for_qos_2(
    settings: Settings,
    connection: asyncpg.Connection,
    mosquitto_factory: MosquittoFactory,
    share: str,
    workers: int,
    sessions: int,
) -> None:
    broker = mosquitto_factory(options=SAYS_ALL)
    settings = changed(settings, port=broker.port)
    more: dict[str, JsonValue] = {"mqtt__qos": 2, "ingest__share": share}
    async with supervised(settings, "--workers", str(workers), **more) as running:
        names = await running.subscribed(sessions)
        await publish(settings, 40, qos=2)
        await stored(connection, 40)
        await require_each_once(connection, 40)
        left = 40 if share == "topics" else 0
        async with asyncio.timeout(PATIENCE_S):
            while sum((await running.samples("telemetry_ingest_messages_left_total")).values()) < left:
                await asyncio.sleep(0.1)
        assert await running.end() == 0, running.said
    log = broker.log.read_text()
    assert [name for name in names if f": {name} 2 " not in log] == []
    acknowledged = {name: log.count(f"Received PUBREC from {name} ") for name in names}
    strays = sum(count for name, count in acknowledged.items() if "-strays-" in name)
    assert (sum(acknowledged.values()) - strays, strays) == (40, left)


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_former_session_gives_up_what_it_holds_at_qos_2(
    settings: Settings,
    connection: asyncpg.Connection,
    mosquitto_factory: MosquittoFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the setting is by now: the messages were queued at the QoS of then."""
    monkeypatch.setattr(assembly, "_SILENCE_S", 1.0)
    broker = mosquitto_factory(options=SAYS_ALL)
    settings = changed(settings, port=broker.port)
    former, filters = f"{settings.mqtt.client_id}-old", [f"{settings.mqtt.topic_root}/#"]
    await subscribed(changed(settings, qos=2), former, filters)
    await on_record(connection, former, filters, base=settings.mqtt.client_id)
    await publish(settings, 60, qos=2)
    async with ingesting(changed(settings, receive_maximum=20)):
        assert await received(connection, 60) == {"received": 60, "stored": 60}
        await forgotten(connection, former)
    assert broker.log.read_text().count(f"Received PUBCOMP from {former} ") == 60


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_messages_of_qos_0_beyond_the_room_for_them_are_dropped_and_counted(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    """Nothing is promised of them, but each is stored or in the metric."""
    total = 300
    async with ingesting(changed(settings, receive_maximum=20)) as url, gateway(settings) as sender:
        async with connection.transaction():
            await connection.execute("LOCK TABLE lighting_readings")
            for number in range(total):
                await sender.send("lighting/a", reading("lighting", number), 0)
            await shows_dropped(url, total - 20)
        assert await received(connection, 20) == {"received": 20, "stored": 20}
        # There is room again.
        await sender.send("lighting/a", reading("lighting", total), 0)
        await received(connection, 21)
        await shows_dropped(url, total - 20)


async def shows_dropped(url: str, messages: int) -> None:
    """Waits until the metrics tell of so many."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := http.metric(await http.get(url) or "", "telemetry_ingest_mqtt_qos0_dropped_total")) != messages:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)
