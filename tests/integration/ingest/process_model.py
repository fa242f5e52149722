"""One life of an ingest process inside the test: the real parts, with a gate before the writer and no socket.

The session is fed by hand. The pipeline runs by itself up to the gate; what it wants to settle waits until the test
hands it to the session, in whatever order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import asyncpg
from mqtt5 import PublishPacket

from telemetry.domains import Registry
from telemetry.ingest.clocks import Clocks
from telemetry.ingest.devices import Devices
from telemetry.ingest.intake import Intake
from telemetry.ingest.metrics import Metrics
from telemetry.ingest.pipeline import Pipeline
from telemetry.ingest.preparation import Preparation
from telemetry.ingest.routes import Routes
from telemetry.mqtt.oversize import Message as Delivered
from telemetry.mqtt.session import Session
from telemetry.settings import Settings
from telemetry.store.batch import Batch
from telemetry.store.copy import Counts
from telemetry.store.writer import Writer
from tests.integration.ingest.broker_model import SEQUENCE, Broker, Message

PATIENCE_S: Final = 120.0


class GatedWriter(Writer):
    """Lets one batch through whenever it is told to."""

    def __init__(self, settings: Settings, routes: Routes, written: Callable[[Batch], Awaitable[None]]) -> None:
        super().__init__(settings, settings.mqtt.client_id, on_connect=routes.clear)
        self._written = written
        self.gate = asyncio.Semaphore(0)
        self.waiting: Batch | None = None
        self.writing: Batch | None = None
        self.written: Batch | None = None

    async def write(self, batch: Batch) -> Counts:
        """Waits at the gate, writes, and has the outcome checked before anybody else learns of it."""
        self.waiting = batch
        await self.gate.acquire()
        self.waiting, self.writing = None, batch
        counts = await super().write(batch)
        await self._written(batch)
        self.written, self.writing = batch, None
        return counts


class Process:
    """The parts of `telemetry ingest`, wired as the service wires them.

    Args:
        written: called with each batch of which the writer says that it is committed.

    Attributes:
        settled: what the pipeline has settled and the session does not know yet.
        numbers: the message of each number that the session has given away.
    """

    def __init__(
        self, settings: Settings, registry: Registry, broker: Broker, written: Callable[[Batch], Awaitable[None]]
    ) -> None:
        self._broker = broker
        self.session = Session(settings.mqtt.model_copy(update={"qos": 2}), [f"{settings.mqtt.topic_root}/#"])
        self.settled: list[tuple[int, int]] = []
        self.numbers: dict[int, Message] = {}
        self.paused = False
        self._intake = Intake(settings.ingest)
        self._intake.flow = self
        routes = Routes(settings.mqtt.topic_root, registry)
        self._devices = Devices(settings)
        self.writer = GatedWriter(settings, routes, written)
        preparation = Preparation(settings.ingest, routes, self._devices)
        pipeline = Pipeline(self._intake, preparation, self.writer, self._settle, Metrics(), Clocks())
        self._taken = 0
        self._pipeline = asyncio.create_task(pipeline.run())

    def pause(self) -> None:
        """The intake is full."""
        self.paused = True

    def resume(self) -> None:
        """It has room again."""
        self.paused = False

    def take(self, first: int, packets: Sequence[Delivered]) -> None:
        """Hands the messages of a read on, as the subscriber does."""
        for number, packet in enumerate(packets, first):
            assert isinstance(packet, PublishPacket)
            self.numbers[number] = self._broker.messages[int(dict(packet.user_properties)[SEQUENCE])]
        if packets:
            self._taken = first + len(packets)
            self._intake.put(first, packets)

    def content(self, batch: Batch) -> list[Message]:
        """The messages of a batch."""
        return [self.numbers[number] for number in range(batch.first, batch.end)]

    async def at_gate(self) -> bool:
        """Waits for the next batch, if there is any message for one."""
        written = self.writer.written
        if (0 if written is None else written.end) == self._taken:
            return False
        await self.until(lambda: self.writer.waiting is not None)
        return True

    async def until(self, reached: Callable[[], bool]) -> None:
        """Waits for the pipeline, and for its end if it fails."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            if self._pipeline.done():
                self._pipeline.result()
                raise AssertionError("the pipeline has ended")
            assert time.monotonic() < deadline, "the pipeline stands still"
            await asyncio.sleep(0.0005)

    async def die(self) -> None:
        """Ends without another word."""
        self._pipeline.cancel()
        await asyncio.gather(self._pipeline, return_exceptions=True)
        await self.writer.close()
        await self._devices.close()

    def _settle(self, first: int, end: int) -> None:
        self.settled.append((first, end))


async def backends_gone(database: asyncpg.Connection) -> None:
    """Waits until no server process of ingest is left, so that what is committed is decided."""
    deadline = time.monotonic() + PATIENCE_S
    while await database.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'telemetry ingest%'"
    ):
        assert time.monotonic() < deadline, "a server process of ingest stays"
        await asyncio.sleep(0.002)
