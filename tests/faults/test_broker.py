"""The broker restarts with its queue; two processes want one session; ingest is told to end."""

from __future__ import annotations

import asyncio
import time

import pytest

from telemetry.ingest.assembly import GRACE
from tests.faults.publisher import Publisher
from tests.faults.scene import END_WITHIN_S, Scene, loaded
from tests.support.broker_fixtures import MosquittoFactory

RATE = 1_000.0


@pytest.mark.asyncio
@pytest.mark.parametrize("times", [pytest.param(1, marks=pytest.mark.short), pytest.param(5, marks=pytest.mark.long)])
async def test_broker_that_restarts_with_its_queue_loses_nothing(
    scene: Scene, mosquitto_factory: MosquittoFactory, times: int
) -> None:
    broker = mosquitto_factory()
    mqtt = scene.settings.mqtt.model_copy(update={"port": broker.port})
    scene.settings = scene.settings.model_copy(update={"mqtt": mqtt})
    async with scene.ingesting(), Publisher(scene.settings) as publisher:
        async with loaded(publisher, RATE):
            for _ in range(times):
                await scene.grown(300)
                await asyncio.to_thread(broker.stop)
                await asyncio.to_thread(broker.start)
            await scene.grown(300)
        await scene.settled(publisher)
    (await scene.account(f"broker restarted, {times} times", publisher)).assert_kept()


@pytest.mark.asyncio
@pytest.mark.parametrize("times", [pytest.param(1, marks=pytest.mark.short), pytest.param(5, marks=pytest.mark.long)])
async def test_messages_of_qos_2_are_kept_over_killed_ingest_and_restarted_broker(
    scene: Scene, mosquitto_factory: MosquittoFactory, times: int
) -> None:
    broker = mosquitto_factory(options={"log_type": "debug"})
    mqtt = scene.settings.mqtt.model_copy(update={"port": broker.port})
    scene.settings = scene.settings.model_copy(update={"mqtt": mqtt})
    async with scene.ingesting(mqtt__qos=2) as process, Publisher(scene.settings, qos=2) as publisher:
        async with loaded(publisher, RATE):
            for _ in range(times):
                await scene.grown(300)
                await process.kill()
                await process.start()
                await process.subscribed()
                await scene.grown(300)
                await asyncio.to_thread(broker.stop)
                await asyncio.to_thread(broker.start)
            await scene.grown(300)
        await scene.settled(publisher)
    account = await scene.account(f"QoS 2: ingest killed, broker restarted, {times} times", publisher)
    account.assert_kept()
    assert broker.log.read_text().count(f"Received PUBREC from {mqtt.client_id} ") >= account.stored


@pytest.mark.asyncio
async def test_second_process_of_the_same_client_id_waits_for_its_turn(scene: Scene) -> None:
    async with scene.ingesting() as first, Publisher(scene.settings) as publisher:
        second = scene.process()
        async with loaded(publisher, RATE):
            await scene.grown(300)
            await second.start()
            await scene.says("another process ingests as")
            await scene.grown(1_000)
            assert first.alive
            await first.kill()
            await second.subscribed()
            await scene.grown(300)
        await scene.settled(publisher)
        assert await second.stop() == 0
    assert "mqtt_disconnected" not in scene.log.read_text(), "they fought over the session"
    (await scene.account("second process of the same client id", publisher, "the first killed")).assert_kept()


@pytest.mark.asyncio
@pytest.mark.parametrize("times", [pytest.param(2, marks=pytest.mark.short), pytest.param(10, marks=pytest.mark.long)])
async def test_ingest_told_to_end_under_load_acknowledges_all_it_stored(scene: Scene, times: int) -> None:
    longest = 0.0
    await scene.known_to_the_broker()
    async with Publisher(scene.settings) as publisher:
        async with loaded(publisher, 2 * RATE):
            for _ in range(times):
                async with scene.ingesting() as process:
                    await scene.grown(300)
                    began = time.monotonic()
                    assert await process.stop() == 0, process.last_words
                    longest = max(longest, time.monotonic() - began)
        async with scene.ingesting():
            await scene.settled(publisher)
    account = await scene.account(f"SIGTERM under load, {times} times", publisher, f"longest {longest:.1f} s")
    account.assert_kept()
    # What has not committed within the grace is taken back, whatever becomes of its transaction.
    assert account.duplicate == 0 or longest > GRACE.total_seconds(), "something was stored and not acknowledged"
    assert longest < END_WITHIN_S
