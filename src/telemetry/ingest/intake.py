"""Messages on their way from the socket to a batch: who is full, and how much waits."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from telemetry.settings import IngestSettings
from telemetry.store.layout import HOUR_US

_PAUSE_AT = 4
"""Batches that wait before the socket is paused; half of it before it goes on."""


class Message(Protocol):
    """What ingest reads of an MQTT PUBLISH packet."""

    @property
    def topic(self) -> str:
        """As published."""

    @property
    def payload(self) -> bytes:
        """The raw bytes."""


class Arrival(NamedTuple):
    """Messages that were received at one moment.

    Attributes:
        first: number of the first message.
        received_us: µs since 1970.
        size: bytes of the payloads, and characters of the topics.
    """

    first: int
    received_us: int
    messages: Sequence[Message]
    size: int


def size_of(messages: Sequence[Message]) -> int:
    """What some messages hold: bytes of the payloads, and characters of the topics, which may be 64 KiB each."""
    return sum([len(message.payload) + len(message.topic) for message in messages])


class Flow(Protocol):
    """The socket, as far as it can be stopped."""

    def pause(self) -> None:
        """Stops reading."""

    def resume(self) -> None:
        """Goes on reading."""


class Intake:
    """Collects arrivals until they make a batch: by number, by size or by age of the first, whichever comes first."""

    def __init__(self, settings: IngestSettings) -> None:
        self._rows = settings.batch_rows
        self._bytes = settings.batch_bytes
        self._age = settings.batch_age
        self._arrivals: deque[Arrival] = deque()
        self._waiting = 0
        self._waiting_bytes = 0
        self._opened_at = 0.0
        self._changed = asyncio.Event()
        self._closed = False
        self.flow: Flow | None = None

    @property
    def waiting(self) -> int:
        """Messages that no batch has taken yet."""
        return self._waiting

    @property
    def oldest_us(self) -> int | None:
        """When the oldest of them was received, in µs since 1970."""
        return self._arrivals[0].received_us if self._arrivals else None

    def put(self, first: int, messages: Sequence[Message]) -> None:
        """Takes the messages of one read from the socket."""
        size = size_of(messages)
        if not self._arrivals:
            self._opened_at = time.monotonic()
            self._changed.set()
        self._arrivals.append(Arrival(first, time.time_ns() // 1000, messages, size))
        self._waiting += len(messages)
        self._waiting_bytes += size
        if self._is_full():
            self._changed.set()
            if self.flow is not None and self._holds(_PAUSE_AT):
                self.flow.pause()

    def close(self) -> None:
        """Says that nothing more will come; what waits still makes a batch."""
        self._closed = True
        self._changed.set()

    async def take(self) -> list[Arrival]:
        """The arrivals of the next batch; an empty list when closed and drained.

        All of them are of the same hour, so that the ledger's hour is exact.
        """
        while not (self._is_full() or self._closed):
            self._changed.clear()
            await self._wait()
            if self._arrivals and time.monotonic() - self._opened_at >= self._age.total_seconds():
                break
        return self._cut()

    async def _wait(self) -> None:
        """Until something changes, or the first message that waits is old enough."""
        if not self._arrivals:
            await self._changed.wait()
            return
        left = self._opened_at + self._age.total_seconds() - time.monotonic()
        # Not wait_for: up to Python 3.11 it loses a cancellation that comes at the same moment.
        with suppress(TimeoutError):
            async with asyncio.timeout(max(left, 0)):
                await self._changed.wait()

    def _is_full(self) -> bool:
        return self._holds(1)

    def _holds(self, batches: float) -> bool:
        return self._waiting >= batches * self._rows or self._waiting_bytes >= batches * self._bytes

    def _cut(self) -> list[Arrival]:
        taken: list[Arrival] = []
        rows = size = 0
        while self._arrivals and rows < self._rows and size < self._bytes:
            if taken and self._arrivals[0].received_us // HOUR_US != taken[0].received_us // HOUR_US:
                break
            arrival = self._arrivals.popleft()
            taken.append(arrival)
            rows += len(arrival.messages)
            size += arrival.size
        self._waiting -= rows
        self._waiting_bytes -= size
        self._opened_at = time.monotonic()
        if self.flow is not None and not self._holds(_PAUSE_AT / 2):
            self.flow.resume()
        return taken
