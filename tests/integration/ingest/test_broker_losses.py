"""What a real Mosquitto drops and forgets is shown beside the ledger, whether ingest was running or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from structlog.testing import capture_logs

from telemetry.api.app import create_app
from telemetry.demo import http
from telemetry.demo.mosquitto import LocalMosquitto
from telemetry.ingest import accounts
from telemetry.settings import Settings
from tests.support.broker_fixtures import MosquittoFactory
from tests.support.flood import flood
from tests.support.gateway import gateway
from tests.support.ingesting import PATIENCE_S, ingesting, outcomes, received, shows

QUEUE = 10
SHORT = {"max_queued_messages": str(QUEUE), "max_inflight_messages": "20", "sys_interval": "1"}


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accounts are written several times a second."""
    monkeypatch.setattr(accounts, "EVERY_S", 0.2)


def towards(settings: Settings, broker: LocalMosquitto, **mqtt: Any) -> Settings:
    """The settings for a broker of the test's own."""
    return settings.model_copy(update={"mqtt": settings.mqtt.model_copy(update={"port": broker.port, **mqtt})})


def readings(count: int) -> list[tuple[str, bytes]]:
    """Messages that are readings."""
    return [("parking/p", json.dumps({"arrivals": number}).encode()) for number in range(count)]


async def counters(database: asyncpg.Connection) -> int:
    """The value of the broker's counter when it is first written."""
    async with asyncio.timeout(PATIENCE_S):
        while (value := await database.fetchval("SELECT value FROM broker_counters")) is None:
            await asyncio.sleep(0.05)
    return int(value)


async def lost(database: asyncpg.Connection, kind: str) -> int:
    """How much was lost so far."""
    return int(await database.fetchval(f"SELECT coalesce(sum({kind}), 0)::bigint FROM broker_losses_hourly"))


async def session_lost(database: asyncpg.Connection) -> None:
    """Waits until the loss of a session is written, and of one only."""
    async with asyncio.timeout(PATIENCE_S):
        while not await lost(database, "sessions_lost"):
            await asyncio.sleep(0.05)
    assert await lost(database, "sessions_lost") == 1


async def accounted_for(database: asyncpg.Connection, messages: int) -> int:
    """Waits until so many messages were received or dropped; returns how many were dropped.

    The broker tells its counter once a second, also amid a flood.
    """
    async with asyncio.timeout(PATIENCE_S):
        while True:
            dropped = await lost(database, "messages_dropped")
            if (total := dropped + (await outcomes(database))["received"]) >= messages:
                assert total == messages
                return dropped
            await asyncio.sleep(0.05)


@asynccontextmanager
async def asking(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Asks the HTTP service."""
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        yield client


@pytest.mark.asyncio
async def test_what_the_broker_dropped_while_ingest_was_away_is_counted_by_the_next_one(
    settings: Settings, connection: asyncpg.Connection, mosquitto_factory: MosquittoFactory
) -> None:
    settings = towards(settings, mosquitto_factory(SHORT))
    async with ingesting(settings), gateway(settings) as sender:
        await sender.send("parking/p", {"arrivals": 1})
        await received(connection, 1)
        assert await counters(connection) == 0
    await flood(settings, readings(500))
    async with ingesting(settings) as metrics:
        dropped = await accounted_for(connection, 501)
        assert 500 - QUEUE - 20 <= dropped <= 500 - QUEUE
        await shows(
            metrics, lambda page: http.metric(page, "telemetry_ingest_broker_dropped_messages_total") == dropped
        )
        found = await received(connection, 1 + 500 - dropped)
    assert found == {"received": 501 - dropped, "stored": 501 - dropped}
    async with ingesting(settings):
        pass
    async with asking(settings) as client:
        answer = (await client.get("/v1/ledger")).json()
    broker = answer["meta"]["broker"]
    assert (broker["messages_dropped"], broker["sessions_lost"]) == (dropped, 0)
    assert sum(hour["messages_dropped"] for hour in broker["hours"]) == dropped
    assert datetime.fromisoformat(broker["counters_seen_at"]) <= datetime.now(UTC)
    assert answer["meta"]["balanced"] is True
    assert set(answer["data"][0]) >= {"hour", "domain", "received", "imbalance"}
    assert await connection.fetchval("SELECT count(*) FROM ledger WHERE domain = 'unknown'") == 0
    assert await connection.fetchval("SELECT sum(messages_dropped)::bigint FROM grafana.broker_losses") == dropped


@pytest.mark.asyncio
@pytest.mark.parametrize("running", [True, False], ids=["ingest running", "ingest away"])
async def test_session_that_the_broker_forgot_is_counted(
    settings: Settings, connection: asyncpg.Connection, mosquitto_factory: MosquittoFactory, running: bool
) -> None:
    broker = mosquitto_factory({"persistence": "false"})
    settings = towards(settings, broker)

    async def restart() -> None:
        await asyncio.to_thread(broker.stop)
        await asyncio.to_thread(broker.start)

    async with ingesting(settings), gateway(settings) as sender:
        await sender.send("parking/p", {"arrivals": 1})
        await received(connection, 1)
        if running:
            await restart()
            await session_lost(connection)
    if not running:
        assert await connection.fetchval("SELECT count(*) FROM broker_losses") == 0
        await restart()
        async with ingesting(settings):
            await session_lost(connection)
    async with ingesting(settings), asking(settings) as client:
        broker_account = (await client.get("/v1/ledger")).json()["meta"]["broker"]
    assert broker_account["sessions_lost"] == 1


@pytest.mark.asyncio
async def test_broker_that_refuses_its_counters_costs_no_reading(
    settings: Settings, connection: asyncpg.Connection, mosquitto_factory: MosquittoFactory, tmp_path: Path
) -> None:
    plugin = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)
    if plugin is None:
        pytest.skip("Mosquitto is installed here without its plugin for dynamic security")
    rights = tmp_path / "rights.json"
    allowed = [{"acltype": "subscribePattern", "topic": f"{settings.mqtt.topic_root}/#", "allow": True}]
    group = {"groupname": "anonymous", "roles": [{"rolename": "reader"}]}
    rights.write_text(
        json.dumps(
            {
                "defaultACLAccess": {
                    "subscribe": False,
                    "publishClientSend": True,
                    "publishClientReceive": True,
                    "unsubscribe": True,
                },
                "roles": [{"rolename": "reader", "acls": allowed}],
                "groups": [group],
                "anonymousGroup": "anonymous",
            }
        )
    )
    broker = mosquitto_factory({"plugin": str(plugin), "plugin_opt_config_file": str(rights)})
    settings = towards(settings, broker)
    with capture_logs() as logs:
        async with ingesting(settings), gateway(settings) as sender:
            await sender.send("parking/p", {"arrivals": 1})
            assert await received(connection, 1) == {"received": 1, "stored": 1}
            async with asyncio.timeout(PATIENCE_S):
                while not any(each["event"] == "mqtt_counters_refused" for each in logs):
                    await asyncio.sleep(0.05)
    (refused,) = [each for each in logs if each["event"] == "mqtt_counters_refused"]
    assert len(refused["counters"]) == len(settings.mqtt.dropped_counters)
    async with asking(settings) as client:
        account = (await client.get("/v1/ledger")).json()["meta"]["broker"]
    assert account == {"messages_dropped": None, "sessions_lost": 0, "counters_seen_at": None, "hours": []}


@pytest.mark.asyncio
async def test_subscription_of_former_times_makes_no_quarantine(
    settings: Settings, connection: asyncpg.Connection, mosquitto_factory: MosquittoFactory
) -> None:
    """The broker remembers the subscription when the setting is turned off, and goes on to send."""
    broker = mosquitto_factory(SHORT)
    async with ingesting(towards(settings, broker, dropped_counters=["$SYS/broker/uptime"])):
        pass
    off = towards(settings, broker, dropped_counters=[])
    async with ingesting(off), gateway(off) as sender:
        await asyncio.sleep(2.5)
        await sender.send("parking/p", {"arrivals": 1})
        assert await received(connection, 1) == {"received": 1, "stored": 1}
    assert await connection.fetchval("SELECT count(*) FROM broker_losses") == 0


@pytest.mark.asyncio
async def test_workers_of_one_broker_count_its_drops_once_and_their_sessions_each(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    rows = [
        (hour, "broker-1:1883", "a", "messages_dropped", 7),
        (hour, "broker-1:1883", "b", "messages_dropped", 5),
        (hour, "broker-2:1883", "c", "messages_dropped", 100),
        (hour, "broker-1:1883", "a", "sessions_lost", 1),
        (hour, "broker-1:1883", "b", "sessions_lost", 2),
    ]
    await connection.copy_records_to_table("broker_losses", records=rows)
    (found,) = await connection.fetch("SELECT messages_dropped, sessions_lost FROM broker_losses_hourly")
    assert tuple(found) == (107, 3)
