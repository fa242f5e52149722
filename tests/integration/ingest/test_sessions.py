"""The record of sessions: what the broker has lost, and subscriptions that are no longer wanted."""

from __future__ import annotations

import asyncio
from datetime import datetime

import asyncpg
import pytest

from telemetry.demo import http
from telemetry.settings import Settings
from telemetry.store.sessions import Known, Sessions
from tests.integration.ingest.test_workers import publish
from tests.support.gateway import forget_session
from tests.support.ingesting import PATIENCE_S, ingesting, received, shows
from tests.support.supervised import until

LOST = "telemetry_ingest_mqtt_sessions_lost_total"


def confirmed(settings: Settings) -> str:
    """Whether the session of the settings is on record with exactly the filters that it has."""
    return f"SELECT filters FROM ingest_sessions WHERE subscribed_at IS NOT NULL AND base = '{settings.mqtt.client_id}'"


async def lost(url: str) -> float | None:
    """How many sessions the metrics call lost; they show it as soon as they show that the session is connected."""
    return http.metric(await shows(url, lambda page: page != ""), LOST)


@pytest.mark.asyncio
async def test_session_that_was_lost_while_we_were_away_is_told(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    filters = [f"{settings.mqtt.topic_root}/#"]
    for _ in range(2):  # the first time there was none to lose, the second time it is there
        async with ingesting(settings) as url:
            await until(connection, confirmed(settings), lambda found: found == filters)
            assert await lost(url) == 0
    await forget_session(settings, settings.mqtt.client_id)
    async with ingesting(settings) as url:
        assert await lost(url) == 1


@pytest.mark.asyncio
async def test_subscription_that_is_no_longer_wanted_is_ended(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    root, name = settings.mqtt.topic_root, settings.mqtt.client_id
    async with ingesting(settings):
        await until(connection, confirmed(settings), lambda found: found == [f"{root}/#"])
    shared = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"share": "broker"})})
    async with ingesting(shared):
        await until(connection, confirmed(settings), lambda found: found == [f"$share/{name}/{root}/#"])
        await publish(settings, range(40))
        assert await received(connection, 40) == {"received": 40, "stored": 40}


@pytest.mark.asyncio
async def test_record_keeps_both_filters_until_the_broker_has_confirmed(settings: Settings) -> None:
    sessions, name = Sessions(settings), settings.mqtt.client_id
    try:
        assert await sessions.announce(name, ["a/#"]) == Known(name, (), False)
        assert await sessions.announce(name, ["b/#"]) == Known(name, ("a/#",), False)
        assert await sessions.announce(name, ["a/#"]) == Known(name, ("b/#",), False)
        await sessions.confirm(name, ["a/#"])
        assert await sessions.announce(name, ["a/#"]) == Known(name, (), True)
        assert await sessions.former([name]) == []
        assert await sessions.former([]) == [Known(name, ("a/#",), True)]
        await sessions.forget(name)
        assert await sessions.former([]) == []
    finally:
        await sessions.close()


@pytest.mark.asyncio
async def test_former_session_of_another_ingest_is_left_alone(settings: Settings) -> None:
    other = settings.model_copy(update={"mqtt": settings.mqtt.model_copy(update={"client_id": "other"})})
    mine, theirs = Sessions(settings), Sessions(other)
    try:
        await theirs.announce("other", ["a/#"])
        assert await mine.former([]) == []
    finally:
        await mine.close()
        await theirs.close()


@pytest.mark.asyncio
async def test_wait_ends_when_every_session_has_answered_since(settings: Settings) -> None:
    """What was confirmed in former times does not count: the broker may have forgotten it."""
    sessions, others = Sessions(settings), Sessions(settings)
    try:
        made: dict[str, datetime] = {}
        for _ in ("unknown to the broker", "known, and perhaps forgotten"):
            waiting = asyncio.create_task(sessions.wait_for(["a", "b"]))
            for name in ("a", "b"):
                await others.announce(name, [f"{name}/#"])
                await others.confirm(name, [f"{name}/#"])
                await asyncio.sleep(0.5)
                assert not waiting.done()
                await others.answer(name, made_anew=bool(made) and name == "b")
            # A running ingest says it every second: the first time may have been before it was asked.
            async with asyncio.timeout(PATIENCE_S):
                while not waiting.done():
                    for name in ("a", "b"):
                        await others.answer(name, made_anew=False)
                    await asyncio.sleep(0.1)
            before, made = made, waiting.result()
        assert made["a"] == before["a"]
        assert made["b"] > before["b"]
    finally:
        await sessions.close()
        await others.close()
