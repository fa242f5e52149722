"""Sessions that are used no more: given up when nothing of them is left, at the broker or here, and no sooner."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiomqtt
import asyncpg
import pytest
from structlog.testing import capture_logs

from telemetry.ingest import assembly, service
from telemetry.ingest.intake import Arrival
from telemetry.ingest.parcel import Kept, Parcel
from telemetry.ingest.spool import Spool
from telemetry.mqtt.subscriber import Subscriber
from telemetry.settings import Settings
from telemetry.store.pool import connection as connected
from tests.support.broker_fixtures import MosquittoFactory
from tests.support.gateway import gateway
from tests.support.ingesting import PATIENCE_S, ingesting, received
from tests.support.proxy import Proxy
from tests.support.supervised import until

SILENCE_S = 1.0


@pytest.fixture(autouse=True)
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less waiting for the same question."""
    monkeypatch.setattr(assembly, "_SILENCE_S", SILENCE_S)


def divided(settings: Settings, directory: Path | None = None) -> Settings:
    """Two workers, for which the session of one is a former one; with a spool there."""
    return settings.model_copy(
        update={
            "ingest": settings.ingest.model_copy(update={"workers": 2}),
            "spool": settings.spool.model_copy(update={"directory": directory, "after": timedelta(seconds=1)}),
        }
    )


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    """All workers run, in this process, while the block does."""
    stop = asyncio.Event()
    workers = [asyncio.create_task(service.run(settings, stop, number)) for number in (1, 2)]
    try:
        yield
        for worker in workers:
            assert not worker.done(), worker.result()
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*workers), PATIENCE_S)


def to_broker(settings: Settings, port: int, **more: Any) -> Settings:
    """The same at another broker."""
    return settings.model_copy(update={"mqtt": settings.mqtt.model_copy(update={"port": port, **more})})


async def subscribed(settings: Settings, client_id: str, filters: list[str]) -> None:
    """Makes a session that the broker keeps, as a process has it that was stopped."""
    mqtt = settings.mqtt.model_copy(update={"client_id": client_id})
    subscriber = Subscriber(mqtt, filters, lambda first, messages: None)
    running = asyncio.create_task(subscriber.run())
    while not subscriber.stats.connected:
        await asyncio.sleep(0.02)
    await subscriber.close(timedelta(0))
    await running


async def publish(settings: Settings, readings: int, size: int = 9_000) -> None:
    """Publishes readings of so many bytes."""
    now = datetime.now(UTC)
    async with gateway(settings) as sender:
        for number in range(readings):
            time = (now - timedelta(milliseconds=number)).isoformat()
            await sender.send("waste/bin", {"time": time, "fill_level_pct": 5, "filler": "x" * size})


async def send_one(settings: Settings) -> None:
    """Publishes one reading to a session of the present, once that is there."""
    async with connected(settings, "test") as database:
        await until(database, "SELECT count(*) FROM ingest_sessions WHERE answered", lambda found: found == 5)
    # A broker that goes by client ids knows this one.
    name = f"{settings.mqtt.client_id}-gateway"
    async with aiomqtt.Client(settings.mqtt.host, settings.mqtt.port, identifier=name, timeout=PATIENCE_S) as sender:
        await sender.publish(f"{settings.mqtt.topic_root}/lighting/lamp", json.dumps({"power_w": 1.0}), qos=1)


async def on_record(database: asyncpg.Connection, client_id: str, filters: list[str], base: str = "") -> None:
    """Writes that the broker had that session."""
    await database.execute(
        "INSERT INTO ingest_sessions (client_id, base, filters, subscribed_at) VALUES ($1, $2, $3, now())",
        client_id,
        base or client_id,
        filters,
    )


async def is_known(database: asyncpg.Connection, client_id: str) -> bool:
    """Whether a session is on record."""
    known: bool = await database.fetchval("SELECT EXISTS (SELECT FROM ingest_sessions WHERE client_id = $1)", client_id)
    return known


async def forgotten(database: asyncpg.Connection, client_id: str) -> None:
    """Waits until a session is struck off."""
    await until(
        database, f"SELECT count(*) FROM ingest_sessions WHERE client_id = '{client_id}'", lambda found: found == 0
    )


def leave_behind(directory: Path, settings: Settings, client_id: str, readings: int = 5) -> Path:
    """A spool as a process leaves it that ends while the database is away; returns its file."""
    spool = Spool(directory, client_id, 64 * 1024 * 1024)
    spool.open()
    now = datetime.now(UTC)
    for number in range(readings):
        body = {"time": (now - timedelta(seconds=number)).isoformat(), "fill_level_pct": 5}
        message = Kept(f"{settings.mqtt.topic_root}/waste/bin-{number}", json.dumps(body).encode())
        spool.append(Parcel(uuid4(), [Arrival(0, time.time_ns() // 1000, [message], len(message.payload))]))
    spool.close()
    return spool.path


@pytest.mark.asyncio
async def test_former_session_is_kept_while_its_spool_holds_something(
    settings: Settings, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    former = settings.mqtt.client_id
    file = leave_behind(tmp_path, settings, former)
    await on_record(connection, former, [f"{settings.mqtt.topic_root}/#"])
    async with connected(settings, "test") as other:
        # Longer than a silence: the broker has nothing to say, and the spool cannot be drained.
        lock = other.transaction()
        await lock.start()
        await other.execute("LOCK TABLE waste_readings IN ACCESS EXCLUSIVE MODE")
        async with working(divided(settings, tmp_path)):
            await until(connection, "SELECT count(*) FROM ingest_sessions WHERE answered", lambda n: n == 5)
            await asyncio.sleep(4 * SILENCE_S)
            assert await is_known(connection, former)
            await lock.rollback()
            assert await received(connection, 5) == {"received": 5, "stored": 5}
            await forgotten(connection, former)
            assert not file.exists()


@pytest.mark.asyncio
async def test_spool_whose_session_is_not_on_record_is_drained_or_named(
    settings: Settings, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    base = settings.mqtt.client_id
    ours = [base, f"{base}-strays-00c0ffee"]
    files = [leave_behind(tmp_path, settings, name) for name in ours]
    unclear = leave_behind(tmp_path, settings, f"{base}-7")
    with capture_logs() as said:
        async with working(divided(settings, tmp_path)):
            await until(connection, "SELECT count(*) FROM waste_readings", lambda rows: rows == 10)
            for name in ours:
                await forgotten(connection, name)
    assert not any(file.exists() for file in files)
    assert unclear.exists()
    named = {each["file"] for each in said if each["event"] == "spool_without_session"}
    assert named == {str(file) for file in (*files, unclear)}


@pytest.mark.asyncio
async def test_former_session_is_kept_while_the_network_stalls(
    settings: Settings, connection: asyncpg.Connection, mosquitto_factory: MosquittoFactory
) -> None:
    """For longer than a silence lasts, and with no connection lost; most of it is still at the broker."""
    broker, total = mosquitto_factory(), 400
    settings = to_broker(settings, broker.port, receive_maximum=20)
    former, filters = f"{settings.mqtt.client_id}-old", [f"{settings.mqtt.topic_root}/#"]
    await subscribed(settings, former, filters)
    await publish(settings, total)
    await on_record(connection, former, filters, base=settings.mqtt.client_id)
    async with Proxy(broker.port) as proxy, ingesting(to_broker(settings, proxy.port)):
        proxy.slow(0.05)
        await until(connection, "SELECT count(*) FROM waste_readings", lambda rows: rows >= 120)
        proxy.slow(4 * SILENCE_S)
        await asyncio.sleep(6 * SILENCE_S)
        assert await connection.fetchval("SELECT count(*) FROM waste_readings") < total
        assert await is_known(connection, former)
        proxy.heal()
        await forgotten(connection, former)
        assert await received(connection, total) == {"received": total, "stored": total}


@pytest.mark.asyncio
async def test_former_session_that_the_broker_refuses_ends_nothing_else(
    settings: Settings,
    connection: asyncpg.Connection,
    mosquitto_factory: MosquittoFactory,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """It is named and tried again, and what its spool holds is stored meanwhile."""
    monkeypatch.setattr(service, "_AGAIN_S", 0.5)
    former = settings.mqtt.client_id
    broker = mosquitto_factory(options={"clientid_prefixes": f"{former}-"})
    await on_record(connection, former, [f"{settings.mqtt.topic_root}/#"])
    file = leave_behind(tmp_path, settings, former, readings=50)
    with capture_logs() as said:
        async with working(divided(to_broker(settings, broker.port), tmp_path)):
            await until(connection, "SELECT count(*) FROM waste_readings", lambda rows: rows == 50)
            while sum(each["event"] == "ingest_session_former_fails" for each in said) < 2:
                await asyncio.sleep(0.05)
            await send_one(to_broker(settings, broker.port))
            await until(connection, "SELECT count(*) FROM lighting_readings", lambda rows: rows == 1)
    assert await is_known(connection, former)
    assert not file.exists()
    (told, *_) = [each for each in said if each["event"] == "ingest_session_former_fails"]
    assert told["client_id"] == former
    assert "refuses us" in told["error"]


@pytest.mark.asyncio
async def test_former_session_whose_spool_is_damaged_ends_nothing_else(
    settings: Settings, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(service, "_AGAIN_S", 0.5)
    former = settings.mqtt.client_id
    await on_record(connection, former, [f"{settings.mqtt.topic_root}/#"])
    file = leave_behind(tmp_path, settings, former)
    whole = file.read_bytes()
    file.write_bytes(b"x" * 100 + whole[100:])
    with capture_logs() as said:
        async with working(divided(settings, tmp_path)):
            while not [each for each in said if each["event"] == "ingest_session_former_fails"]:
                await asyncio.sleep(0.05)
            await send_one(settings)
            await until(connection, "SELECT count(*) FROM lighting_readings", lambda rows: rows == 1)
            assert await is_known(connection, former)
            (tmp_path / "whole").write_bytes(whole)
            (tmp_path / "whole").replace(file)  # at once: it may be tried at any moment
            await forgotten(connection, former)
    assert await connection.fetchval("SELECT count(*) FROM waste_readings") == 5
    assert any(f"the spool {file} is damaged" in each.get("error", "") for each in said)
