"""A gateway: one MQTT connection that publishes at QoS 1, several messages in flight.

It is aiomqtt's client on purpose: the service's own session must get on with somebody else's. A message counts as
published when the broker has acknowledged it. When the connection is lost, what was not acknowledged is published
again, as a gateway does; the reading's time makes the second arrival a duplicate.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import aiomqtt
import structlog

from telemetry.errors import ConfigurationError, Unavailable
from telemetry.settings import MqttSettings

log = structlog.get_logger()

IN_FLIGHT: Final = 8
"""Messages of one gateway that wait for the broker's acknowledgement; aiomqtt warns above ten."""

_RECONNECT_S: Final = 1.0
_REFUSALS: Final = {1, 2, 4, 5, 128 + 4, 128 + 5, 128 + 6, 128 + 7}
"""CONNACK codes that no patience cures: protocol, client id, user, password, authorisation."""


class Outgoing(NamedTuple):
    """A message to publish, and how many readings it carries."""

    topic: str
    payload: bytes
    domain: str
    readings: int


class Gateway:
    """Publishes what it is handed until it is closed and everything is acknowledged."""

    def __init__(self, settings: MqttSettings, name: str, on_published: Callable[[Outgoing], None]) -> None:
        self._settings = settings
        self._name = name
        self._on_published = on_published
        self._queue: asyncio.Queue[Outgoing | None] = asyncio.Queue(maxsize=2 * IN_FLIGHT)
        self._again: deque[Outgoing] = deque()
        self.repeated = 0

    async def put(self, message: Outgoing) -> None:
        """Hands over a message; waits while the gateway has enough to do."""
        await self._queue.put(message)

    async def close(self) -> None:
        """Says that nothing more will come."""
        await self._queue.put(None)

    async def run(self) -> None:
        """Publishes, over as many connections as it takes, until closed and drained."""
        while True:
            try:
                await self._connection()
            except* aiomqtt.MqttError as lost:
                self.repeated += len(self._again)
                log.warning(
                    "gateway_reconnects",
                    detail="The broker is away; what it has not acknowledged is published again.",
                    gateway=self._name,
                    unacknowledged=len(self._again),
                    error=str(lost.exceptions[0]),
                )
            else:
                return
            await asyncio.sleep(_RECONNECT_S)

    async def _connection(self) -> None:
        async with _client(self._settings, self._name) as client, asyncio.TaskGroup() as group:
            watch = group.create_task(_notice_loss(client), name=f"{self._name} watch")
            work = [group.create_task(self._work(client), name=f"{self._name} {n}") for n in range(IN_FLIGHT)]
            await asyncio.wait(work)
            watch.cancel()

    async def _work(self, client: aiomqtt.Client) -> None:
        while True:
            message = self._again.popleft() if self._again else await self._queue.get()
            if message is None:
                # The next worker has to hear it as well.
                self._queue.put_nowait(None)
                return
            try:
                await client.publish(message.topic, message.payload, qos=1)
            except BaseException:
                self._again.append(message)
                raise
            self._on_published(message)


async def probe(settings: MqttSettings) -> None:
    """Connects once, so that a broker that is away is told before anything starts.

    Raises:
        Unavailable: nobody answers at that address.
        ConfigurationError: the broker refuses us.
    """
    address = f"{settings.host}:{settings.port}"
    try:
        async with _client(settings, "probe"):
            pass
    except aiomqtt.exceptions.MqttConnectError as error:
        code = error.rc if isinstance(error.rc, int) else getattr(error.rc, "value", None)
        if code in _REFUSALS:
            raise ConfigurationError(
                f"the MQTT broker at {address} refuses us: {error}; see mqtt.username and mqtt.password"
            ) from error
        raise Unavailable(f"the MQTT broker at {address} does not accept connections now: {error}") from error
    except aiomqtt.MqttError as error:
        raise Unavailable(
            f"no MQTT broker answers at {address}: {error}; start one there, or name another: mqtt.host, mqtt.port"
        ) from error


async def _notice_loss(client: aiomqtt.Client) -> None:
    """Raises as soon as the connection is lost; publishing alone would notice by its time limit only."""
    async for _ in client.messages:
        pass


def _client(settings: MqttSettings, name: str) -> aiomqtt.Client:
    password = settings.password
    return aiomqtt.Client(
        settings.host,
        settings.port,
        identifier=f"gateway-{name}-{secrets.token_hex(3)}",
        username=settings.username,
        password=password.get_secret_value() if password else None,
        keepalive=int(settings.keep_alive.total_seconds()),
        tls_context=_tls(settings),
    )


def _tls(settings: MqttSettings) -> ssl.SSLContext | None:
    tls = settings.tls
    if not tls.enabled:
        return None
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"mqtt.tls: the certificate files cannot be used: {error}") from error
    return context
