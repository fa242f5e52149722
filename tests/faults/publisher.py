"""A gateway that keeps books: what it has published, and what the broker has acknowledged.

It speaks MQTT 3.1.1 through paho, a client that shares no line with ours, and keeps hundreds of messages in flight.
When the broker goes away it sends again what was not acknowledged, as MQTT wants it.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, TypeAlias

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from telemetry.settings import Settings

Key: TypeAlias = tuple[str, int]
"""Device and sequence number: the identity of a message."""

DOMAIN = "energy"
_IN_FLIGHT = 500
_UNACKNOWLEDGED = 20_000
_TICK_S = 0.02


class Publisher:
    """Publishes readings of some devices, each with a number of its own in the counter `energy_import_kwh`.

    Args:
        began: time of the readings with the number 0; each is 1 ms after the one before.
        qos: at which it publishes, 1 or 2.

    Attributes:
        published: what was handed to the broker.
        acked: what the broker has acknowledged, and so answers for.
        refused: of what was published, the payloads that must end in quarantine.
    """

    def __init__(self, settings: Settings, began: datetime | None = None, devices: int = 20, qos: int = 1) -> None:
        self.published: set[Key] = set()
        self.acked: set[Key] = set()
        self.refused: dict[Key, bytes] = {}
        self._address = settings.mqtt.host, settings.mqtt.port
        self._root = settings.mqtt.topic_root
        self._began_ms = int((began or datetime.now(UTC) - timedelta(hours=1)).timestamp() * 1000)
        self._devices = [f"meter-{number:02}" for number in range(devices)]
        self._qos = qos
        self._count = 0
        self._waiting: dict[int, Key] = {}
        self._acknowledged: deque[int] = deque()
        self._client = _client(self._acknowledged)

    async def __aenter__(self) -> Publisher:
        self._client.connect_async(*self._address)
        self._client.loop_start()
        while not self._client.is_connected():
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    @property
    def good(self) -> set[Key]:
        """What the broker answers for and the database must hold."""
        self._book()
        return self.acked - self.refused.keys()

    def next(self) -> Key:
        """The identity of the next message."""
        sequence, device = divmod(self._count, len(self._devices))
        self._count += 1
        return self._devices[device], sequence

    def body(self, key: Key, **more: Any) -> bytes:
        """The payload of a good reading; `more` are further members as JSON texts."""
        _, sequence = key
        extra = "".join(f',"{name}":{text}' for name, text in more.items())
        return (
            f'{{"time":{self._began_ms + sequence},"energy_import_kwh":{sequence},'
            f'"active_power_w":{sequence % 9_000}{extra}}}'
        ).encode()

    def publish(self, count: int) -> list[Key]:
        """Publishes so many further readings."""
        keys = [self.next() for _ in range(count)]
        self.repeat(keys)
        return keys

    def repeat(self, keys: Iterable[Key]) -> None:
        """Publishes readings once more, just as they were."""
        for key in keys:
            self.send(key, self.body(key))

    def refuse(self, payload: bytes, path: str | None = None) -> Key:
        """Publishes a message that must end in quarantine; the payload must be like no other."""
        key = self.next()
        self.refused[key] = payload
        self.send(key, payload, path)
        return key

    def send(self, key: Key, payload: bytes, path: str | None = None) -> None:
        """Publishes one message."""
        self.published.add(key)
        info = self._client.publish(f"{self._root}/{path or f'{DOMAIN}/{key[0]}'}", payload, qos=self._qos)
        assert info.rc in (paho.MQTT_ERR_SUCCESS, paho.MQTT_ERR_NO_CONN), info
        self._waiting[info.mid] = key

    async def run(self, rate: float) -> None:
        """Publishes readings at that many a second until it is cancelled."""
        began, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began) * rate) - sent
            if self.unacknowledged < _UNACKNOWLEDGED:
                self.publish(due)
            sent += due
            await asyncio.sleep(_TICK_S)

    async def pour(self, count: int) -> None:
        """Publishes so many readings as fast as the broker takes them."""
        while count > 0:
            count -= len(self.publish(min(count, _IN_FLIGHT)))
            await self.make_room()

    async def make_room(self) -> None:
        """Waits while much is unacknowledged."""
        while self.unacknowledged > 4 * _IN_FLIGHT:
            await asyncio.sleep(0.005)

    @property
    def unacknowledged(self) -> int:
        """Messages that the broker does not answer for yet."""
        self._book()
        return len(self._waiting)

    async def drain(self, within_s: float = 180.0) -> None:
        """Waits until the broker answers for everything, or the patience ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.unacknowledged:
                    await asyncio.sleep(0.02)

    def _book(self) -> None:
        """Takes over what the network's thread has heard; the identities are known here only."""
        while self._acknowledged:
            self.acked.add(self._waiting.pop(self._acknowledged.popleft()))


def _client(acknowledged: deque[int]) -> paho.Client:
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=f"publisher-{uuid.uuid4().hex[:12]}", clean_session=False
    )
    client.max_inflight_messages_set(_IN_FLIGHT)
    client.reconnect_delay_set(1, 1)
    client.on_publish = lambda _client, _data, mid, _reason, _properties: acknowledged.append(mid)
    return client
