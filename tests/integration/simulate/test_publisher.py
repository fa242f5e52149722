"""The simulated city through a real Mosquitto, seen by a subscriber that knows nothing of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from telemetry.demo.mosquitto import LocalMosquitto, free_port
from telemetry.domains import load_domains
from telemetry.errors import Unavailable
from telemetry.settings import Settings, load_settings
from telemetry.simulate.city import city
from telemetry.simulate.profiles import payload
from telemetry.simulate.publisher import backfill_times, run

PATIENCE_S = 60.0
RATE = 100.0
Seen = list[tuple[str, str, Any]]
"""Domain, device id and decoded body of each message."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalMosquitto]:
    mosquitto = LocalMosquitto(tmp_path / "mosquitto", port=free_port())
    mosquitto.start()
    yield mosquitto
    mosquitto.stop()


@pytest.fixture
def settings(broker: LocalMosquitto) -> Settings:
    return load_settings(overrides={"mqtt.host": "127.0.0.1", "mqtt.port": broker.port})


@asynccontextmanager
async def subscriber(settings: Settings) -> AsyncIterator[Seen]:
    seen: Seen = []
    async with aiomqtt.Client(settings.mqtt.host, settings.mqtt.port) as client:
        await client.subscribe(f"{settings.mqtt.topic_root}/#", qos=1)

        async def listen() -> None:
            async for message in client.messages:
                _, _, domain, device_id = str(message.topic).split("/")
                assert isinstance(message.payload, bytes)
                seen.append((domain, device_id, json.loads(message.payload)))

        listening = asyncio.create_task(listen())
        yield seen
        listening.cancel()


async def arrived(seen: Seen, messages: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(seen) < messages:
            await asyncio.sleep(0.02)


def undisturbed_s(moments: list[datetime]) -> float:
    """Seconds from the first to the last, without the pauses in which a busy machine let nobody publish."""
    gaps = [(after - before).total_seconds() for before, after in pairwise(moments)]
    return sum(gap for gap in gaps if gap < 0.06)


def readings(seen: Seen) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (domain, device_id, reading)
        for domain, device_id, body in seen
        for reading in (body if isinstance(body, list) else [body])
    ]


@pytest.mark.asyncio
async def test_publisher_backfill_arrives_as_counted_and_is_what_the_profiles_say(settings: Settings) -> None:
    fleet = {device.device_id: device for device in city(40)}
    async with subscriber(settings) as seen:
        published = await run(settings, devices=40, rate=0, backfill=timedelta(days=2))
        await arrived(seen, published.messages.total())
    arrived_readings = readings(seen)
    assert Counter(domain for domain, _, _ in arrived_readings) == published.readings
    assert Counter(domain for domain, _, _ in seen) == published.messages
    assert published.readings.total() == 40 * 192
    assert (published.repeated, published.abandoned) == (0, 0)
    for _, device_id, reading in arrived_readings[::97]:
        at = datetime.fromisoformat(reading.pop("time"))
        assert reading == payload(fleet[device_id], at)


@pytest.mark.asyncio
async def test_publisher_live_readings_are_valid_unique_and_at_the_rate(settings: Settings) -> None:
    models = {name: domain.model for name, domain in load_domains().items()}
    async with subscriber(settings) as seen:
        begun = time.monotonic()
        published = await run(settings, devices=40, rate=RATE, duration=timedelta(seconds=2))
        taken_s = time.monotonic() - begun
        await arrived(seen, published.messages.total())
    assert published.messages == published.readings
    assert published.messages.total() <= RATE * taken_s
    assert set(published.messages) == {"energy", "lighting", "parking", "waste"}
    times: dict[str, list[datetime]] = {}
    for domain, device_id, reading in readings(seen):
        measured = models[domain].model_validate(reading).time
        assert measured is not None
        times.setdefault(device_id, []).append(measured)
    assert len(times) == 40
    assert published.messages.total() >= 0.75 * RATE * undisturbed_s(sorted(chain(*times.values())))
    for moments in times.values():
        assert moments == sorted(set(moments))


@pytest.mark.asyncio
async def test_publisher_repeated_backfill_is_the_same_to_the_bit(settings: Settings) -> None:
    async with subscriber(settings) as seen:
        runs = [await run(settings, devices=20, rate=0, backfill=timedelta(hours=3)) for _ in range(2)]
        await arrived(seen, sum(published.messages.total() for published in runs))
    bodies: dict[tuple[str, str], set[str]] = {}
    for _, device_id, reading in readings(seen):
        bodies.setdefault((device_id, reading["time"]), set()).add(json.dumps(reading))
    assert all(len(variants) == 1 for variants in bodies.values())


@pytest.mark.asyncio
async def test_publisher_stops_when_told(settings: Settings) -> None:
    stop = asyncio.Event()
    async with subscriber(settings) as seen:
        running = asyncio.create_task(run(settings, devices=20, rate=100, stop=stop))
        await arrived(seen, 11)
        stop.set()
        published = await asyncio.wait_for(running, PATIENCE_S)
    assert published.messages.total() > 10
    assert published.abandoned == 0


@pytest.mark.asyncio
async def test_publisher_without_a_broker_says_where_it_looked() -> None:
    port = free_port()
    settings = load_settings(overrides={"mqtt.host": "127.0.0.1", "mqtt.port": port})
    with pytest.raises(Unavailable, match=rf"no MQTT broker answers at 127\.0\.0\.1:{port}.*mqtt\.host"):
        await run(settings, devices=20, rate=10)


@pytest.mark.asyncio
async def test_publisher_goes_on_after_the_broker_was_away(broker: LocalMosquitto, settings: Settings) -> None:
    stop = asyncio.Event()
    async with subscriber(settings) as seen:
        running = asyncio.create_task(run(settings, devices=20, rate=200, stop=stop))
        await arrived(seen, 1)
    await asyncio.to_thread(broker.stop)
    await asyncio.sleep(0.5)
    await asyncio.to_thread(broker.start)
    async with subscriber(settings) as seen:
        await arrived(seen, 100)
        stop.set()
        published = await running
    assert published.abandoned == 0
    assert published.messages.total() > 100


def test_backfill_times_are_full_quarters_up_to_now() -> None:
    until = datetime(2026, 11, 24, 10, 7, 30, tzinfo=UTC)
    times = backfill_times(until, timedelta(hours=1))
    assert [time.strftime("%H:%M:%S") for time in times] == ["09:15:00", "09:30:00", "09:45:00", "10:00:00"]


def test_backfill_times_of_two_days_are_192() -> None:
    assert len(backfill_times(datetime(2026, 11, 24, 10, 0, tzinfo=UTC), timedelta(days=2))) == 192
    assert backfill_times(datetime(2026, 11, 24, 10, 7, tzinfo=UTC), timedelta(0)) == []
