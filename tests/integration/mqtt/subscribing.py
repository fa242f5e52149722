"""A subscriber and a publisher around a real broker, and a wire that can be cut, frozen and listened to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Self

import aiomqtt
import mqtt5
from mqtt5 import Packet, PublishPacket

from telemetry.demo.mosquitto import LocalMosquitto
from telemetry.mqtt.oversize import Message
from telemetry.mqtt.subscriber import Subscriber
from telemetry.settings import MqttSettings

PATIENCE_S = 120.0


def mqtt_settings(broker: LocalMosquitto, port: int | None = None, **changes: Any) -> MqttSettings:
    """Settings towards a broker of the tests."""
    return MqttSettings(**{"host": broker.host, "port": port or broker.port, **changes})


async def until(condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Waits until it is true; fails otherwise."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


class Listener:
    """A running subscriber, and all that it delivered."""

    def __init__(self, settings: MqttSettings, root: str, *, settle: bool = False) -> None:
        self.messages: list[PublishPacket] = []
        self.reads: list[range] = []
        self.subscriber = Subscriber(settings, [f"{root}/#"], self._take)
        self.task = asyncio.create_task(self.subscriber.run())
        self._settle = settle

    def _take(self, first: int, messages: list[Message]) -> None:
        assert first == len(self.messages)
        self.messages += [message for message in messages if isinstance(message, PublishPacket)]
        self.reads.append(range(first, first + len(messages)))
        if self._settle:
            self.subscriber.settle(first, first + len(messages))

    @property
    def payloads(self) -> list[int]:
        """The numbers that the publisher wrote into the messages."""
        return [int(message.payload) for message in self.messages]

    async def connected(self, times: int = 1) -> None:
        """Waits until the subscription stands, for that many times."""
        stats = self.subscriber.stats
        await until(lambda: self.task.done() or (stats.connected and stats.connections >= times))
        if self.task.done():
            self.task.result()

    async def acknowledged(self) -> None:
        """Waits until the broker has read the acknowledgements of what is settled."""
        async with asyncio.timeout(PATIENCE_S):
            assert await self.subscriber.echo(), "the connection was lost"

    async def received(self, count: int) -> None:
        """Waits until exactly so many messages were delivered."""
        await until(lambda: len(self.messages) >= count)
        assert len(self.messages) == count

    async def kill(self) -> None:
        """Ends as a crash would, as far as the broker can see: without settling, without a word."""
        self.task.cancel()
        await asyncio.wait({self.task})

    async def close(self, grace_s: float = 5.0) -> None:
        """Ends in order."""
        await self.subscriber.close(timedelta(seconds=grace_s))
        await asyncio.wait_for(self.task, PATIENCE_S)


@asynccontextmanager
async def listening(settings: MqttSettings, root: str, *, settle: bool = False) -> AsyncIterator[Listener]:
    """A connected listener, closed in order unless the test has ended it."""
    listener = Listener(settings, root, settle=settle)
    try:
        await listener.connected()
        yield listener
        if not listener.task.done():
            await listener.close(0.5)
    finally:
        await listener.kill()


class Publisher:
    """A gateway that numbers its messages; each counts once the broker has acknowledged it."""

    def __init__(self, broker: LocalMosquitto, root: str, user: str | None = None, password: str | None = None) -> None:
        self._client = aiomqtt.Client(
            broker.host, broker.port, username=user, password=password, max_queued_outgoing_messages=0
        )
        # paho sends 20 at a time; the broker under test takes more.
        self._client._client.max_inflight_messages_set(2000)
        self._client.pending_calls_threshold = 100_000
        self._root = root
        self._number = 0

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.__aexit__(None, None, None)

    async def publish(self, count: int, qos: int = 1) -> None:
        """Publishes so many messages, whose bodies are their numbers."""
        end = self._number + count
        while self._number < end:
            # A few at a time, so that the subscriber in the same event loop has its turns.
            numbers = range(self._number, min(self._number + 100, end))
            self._number = numbers.stop
            await asyncio.gather(*(self._publish(number, qos) for number in numbers))

    async def _publish(self, number: int, qos: int) -> None:
        await self._client.publish(f"{self._root}/{number % 7}", str(number), qos=qos, timeout=PATIENCE_S)


class Wire:
    """A TCP relay in front of the broker.

    Attributes:
        port: where it listens.
        said: chunks that the subscriber sent, connection by connection.
        deaf: whether what the subscriber sends is thrown away.
        frozen: whether nothing passes any more in either direction, while the connections stay.
    """

    def __init__(self, broker: LocalMosquitto) -> None:
        self.said: list[list[bytes]] = []
        self.heard: list[list[bytes]] = []
        self.deaf = False
        self.frozen = False
        self.port = 0
        self._broker = broker
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self._broker.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.frozen = False
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PATIENCE_S)

    def cut(self) -> None:
        """Resets all connections."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def packets(self, connection: int) -> list[Packet]:
        """What the subscriber said on a connection."""
        return _packets(b"".join(self.said[connection]))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection(self._broker.host, self._broker.port)
        except OSError:
            writer.transport.abort()
            return
        self._writers += [writer, to_writer]
        said, heard = list[bytes](), list[bytes]()
        self.said.append(said)
        self.heard.append(heard)
        for relay in (self._relay(reader, to_writer, said), self._relay(to_reader, writer, heard)):
            task = asyncio.create_task(relay)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _relay(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, seen: list[bytes]) -> None:
        try:
            while data := await source.read(1 << 18):
                seen.append(data)
                await self._thaw()
                if not (self.deaf and any(seen is said for said in self.said)):
                    target.write(data)
                    await target.drain()
            await self._thaw()
        except OSError:
            pass
        finally:
            target.close()

    async def _thaw(self) -> None:
        while self.frozen:
            await asyncio.sleep(0.01)


def _packets(data: bytes) -> list[Packet]:
    found, view = [], memoryview(data)
    while view:
        packet, size = mqtt5.read(view)
        found.append(packet)
        view = view[size:]
    return found
