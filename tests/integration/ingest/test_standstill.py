"""What the metrics say while nothing commits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiomqtt
import asyncpg
import pytest
from structlog.testing import capture_logs

from telemetry.demo import http
from telemetry.settings import Settings
from tests.support.gateway import gateway
from tests.support.ingesting import PATIENCE_S, ingesting, outcomes, received

OLDEST = "telemetry_ingest_oldest_message_age_seconds"
DROPPED = "telemetry_ingest_mqtt_qos0_dropped_total"
LAG = "telemetry_ingest_lag_seconds"


async def shows(url: str, name: str, is_right: Callable[[float], bool]) -> float:
    """Waits until a metric is right; returns it."""
    deadline = time.monotonic() + PATIENCE_S
    while (value := http.metric(await http.get(url) or "", name)) is None or not is_right(value):
        assert time.monotonic() < deadline, (name, value)
        await asyncio.sleep(0.1)
    return value


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_age_of_the_oldest_message_grows_while_nothing_commits(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    """The lag of the last batch cannot tell: there is none."""
    async with ingesting(settings) as url, gateway(settings) as sender:
        await sender.send("lighting/a", {"power_w": 1.0})
        await received(connection, 1)
        await shows(url, OLDEST, lambda age: age == 0)
        lag = await shows(url, LAG, lambda lag: lag > 0)
        async with connection.transaction():
            await connection.execute("LOCK TABLE lighting_readings")
            await sender.send("lighting/a", {"power_w": 2.0})
            await shows(url, OLDEST, lambda age: age > 1)
            # What comes later is no older, also where it waits in the intake.
            await sender.send("lighting/a", {"power_w": 3.0})
            await shows(url, OLDEST, lambda age: age > 2)
            assert await shows(url, LAG, lambda _: True) == lag
        await received(connection, 3)
        await shows(url, OLDEST, lambda age: age == 0)


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_messages_of_qos_0_that_find_no_room_are_told_of(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    """One line for the burst, with all of it; a message is either in that line or stored."""
    small = settings.mqtt.model_copy(update={"receive_maximum": 20})
    settings = settings.model_copy(update={"mqtt": small})
    published = 300
    with capture_logs() as said:
        async with ingesting(settings) as url, aiomqtt.Client(settings.mqtt.host, settings.mqtt.port) as sender:
            async with connection.transaction():
                await connection.execute("LOCK TABLE lighting_readings")
                for number in range(published):
                    body = f'{{"time": {time.time() - number - 1}, "power_w": 1.0}}'
                    await sender.publish(f"{settings.mqtt.topic_root}/lighting/a", body, qos=0)
                async with asyncio.timeout(PATIENCE_S):
                    while not any(each["event"] == "mqtt_qos0_dropped" for each in said):
                        await asyncio.sleep(0.1)
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    dropped = await shows(url, DROPPED, lambda value: value > 0)
                    if (await outcomes(connection))["received"] + dropped == published:
                        break
                    await asyncio.sleep(0.1)
    assert sum(each["messages"] for each in said if each["event"] == "mqtt_qos0_dropped") == dropped
