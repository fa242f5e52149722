"""Keeps the session connected: connects, waits, connects again, until it is closed or a person has to act."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import structlog

from telemetry.errors import Unavailable
from telemetry.mqtt.backoff import Backoff
from telemetry.mqtt.connection import CLOSE_WITHIN_S, Connection, Deliver
from telemetry.mqtt.drops import BrokerDrops
from telemetry.mqtt.faults import TakenOver
from telemetry.mqtt.oversize import LONGEST
from telemetry.mqtt.session import Session, State
from telemetry.mqtt.stats import SessionStats
from telemetry.mqtt.tls import tls_context
from telemetry.settings import MqttSettings

log = structlog.get_logger()

CONNECT_WITHIN_S: Final = 10.0
"""For the TCP connection and the TLS handshake."""

_LOOK_EVERY_S: Final = 0.05

STABLE_AFTER_S: Final = 5.0
"""A connection that the broker accepted and that lasted this long lets the backoff begin anew; one that ends at once,
as where another process has our client id, does not."""


class Subscriber:
    """A subscription that survives broker and network.

    Everything but `run` and `close` is synchronous and must be called in the event loop of `run`. The rules of settling
    are told in `session.py`.

    Args:
        settings: the broker and our session with it.
        filters: topic filters; the broker must grant each.
        deliver: called with `(first, messages)` once per read of the socket; messages[i] has the number first + i.
            It must not block. What it raises ends `run`.
        counters: topic filters of what the broker says that it dropped; it may refuse them.
        stale: topic filters that the session had in former times; the broker is asked to end them.
        known: whether the broker had the session in former times.
        keep: bytes of a payload that are wanted; of a longer one the beginning is delivered.
    """

    def __init__(
        self,
        settings: MqttSettings,
        filters: Sequence[str],
        deliver: Deliver,
        *,
        counters: Sequence[str] = (),
        stale: Sequence[str] = (),
        known: bool = False,
        keep: int = LONGEST,
    ) -> None:
        self._settings = settings
        self._address = f"{settings.host}:{settings.port}"
        self._deliver = deliver
        self._session = Session(settings, filters, counters=counters, stale=stale, known=known, keep=keep)
        self._connection: Connection | None = None
        self._backoff = Backoff(0.1, 30.0)
        # Two processes with one client id throw each other out: whoever is thrown out leaves the other one in peace.
        self._takeover_backoff = Backoff(60.0, 600.0, floor=30.0)
        self._paused_since: float | None = None
        self._closing = asyncio.Event()
        self._settled = asyncio.Event()

    @property
    def stats(self) -> SessionStats:
        """The counters, up to date."""
        self._count_pause()
        return self._session.stats

    @property
    def drops(self) -> BrokerDrops:
        """What the broker says that it dropped."""
        return self._session.drops

    async def run(self) -> None:
        """Keeps the session connected until `close`.

        Raises:
            ConfigurationError: the broker refuses us, and will until a setting is changed.
        """
        tls = tls_context(self._settings.tls)
        working = asyncio.create_task(self._keep_connected(tls), name="mqtt-subscriber")
        closing = asyncio.create_task(self._closing.wait(), name="mqtt-subscriber-closing")
        try:
            await asyncio.wait({working, closing}, return_when=asyncio.FIRST_COMPLETED)
            if self._closing.is_set() and self._connection is not None:
                await asyncio.wait({working}, timeout=2 * CLOSE_WITHIN_S)
        finally:
            for task in (working, closing):
                task.cancel()
            await asyncio.wait({working, closing})
            if self._connection is not None:
                self._connection.abort()
        if not working.cancelled():
            working.result()

    def settle(self, first: int, end: int) -> None:
        """The messages [first, end) are settled and may be acknowledged; those of older connections are passed over."""
        self._session.settle(first, end)
        if self._connection is not None:
            self._connection.settled()
        if not self._session.unsettled:
            self._settled.set()

    def pause(self) -> None:
        """Stops reading, so that the broker keeps what we cannot take. What was read already is still delivered."""
        if self._paused_since is None:
            self._paused_since = asyncio.get_running_loop().time()
            if self._connection is not None:
                self._connection.pause(True)

    def resume(self) -> None:
        """Reads again."""
        if self._paused_since is not None:
            self._count_pause()
            self._paused_since = None
            if self._connection is not None:
                self._connection.pause(False)

    async def echo(self) -> bool:
        """Asks the broker for a sign of life; whether it came over the connection that there is now.

        When it did, everything that the broker had sent before has been delivered, and it had our acknowledgements
        before it answered.
        """
        connection = self._connection
        if connection is None or self._session.state is not State.READY:
            return False
        number = self._session.ping()
        connection.flush()
        while self._connection is connection and self._session.pings_answered < number:  # noqa: ASYNC110 - the session has none
            await asyncio.sleep(_LOOK_EVERY_S)
        return self._connection is connection

    async def close(self, grace: timedelta) -> None:
        """Stops reading, waits up to `grace` until everything delivered is settled, and leaves; the session is kept."""
        connection = self._connection
        if connection is not None and self._session.state is State.READY:
            connection.pause(True)
            await self._wait_until_settled(connection, grace)
        self._closing.set()
        if connection is not None:
            connection.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(connection.lost), 2 * CLOSE_WITHIN_S)

    async def _wait_until_settled(self, connection: Connection, grace: timedelta) -> None:
        self._settled.clear()
        if not self._session.unsettled:
            return
        settled = asyncio.ensure_future(self._settled.wait())
        waiting: set[asyncio.Future[Any]] = {settled, connection.lost}
        await asyncio.wait(waiting, timeout=grace.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        settled.cancel()

    async def _keep_connected(self, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing.is_set():
            began, accepted = loop.time(), self._session.stats.connections
            try:
                await self._connect_once(tls)
            except Unavailable as error:
                # An attempt may wait for long, too.
                worked = self._session.stats.connections > accepted
                delay = self._delay(error, loop.time() - began if worked else 0.0)
                log.warning("mqtt_disconnected", detail=str(error), retry_s=round(delay, 2), broker=self._address)
                await asyncio.sleep(delay)

    def _delay(self, error: Unavailable, worked_s: float) -> float:
        if isinstance(error, TakenOver):
            return self._takeover_backoff.delay()
        if worked_s >= STABLE_AFTER_S:
            self._backoff.reset()
            self._takeover_backoff.reset()
        return self._backoff.delay()

    async def _connect_once(self, tls: ssl.SSLContext | None) -> None:
        """Connects and stays connected; returns when closed, raises otherwise."""
        connection = await self._open(tls)
        self._connection = connection
        # Since it was made, for as long as a TLS handshake takes, nobody has told it.
        connection.pause(self._paused_since is not None)
        try:
            await asyncio.shield(connection.lost)
        finally:
            self._connection = None
            connection.abort()
        if connection.crash is not None:
            raise connection.crash
        if not self._closing.is_set():
            raise self._session.ended or self._broken_off()

    async def _open(self, tls: ssl.SSLContext | None) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._session, self._deliver, self._paused_since is not None),
                    self._settings.host,
                    self._settings.port,
                    ssl=tls,
                )
        except TimeoutError as error:
            raise Unavailable(f"{self._address} does not answer; see mqtt.host and mqtt.port") from error
        except ssl.SSLError as error:
            raise Unavailable(f"no TLS with {self._address}: {error}; see mqtt.port and mqtt.tls") from error
        except OSError as error:
            raise Unavailable(f"{self._address} cannot be reached: {error}; see mqtt.host and mqtt.port") from error
        return connection

    def _broken_off(self) -> Unavailable:
        """Mosquitto 2.0 says nothing to whom it disconnects because another connection has the same client id."""
        return Unavailable(
            f"the connection to {self._address} broke off without a reason; if this repeats, look for another process "
            f"that uses {self._settings.client_id} as its mqtt.client_id"
        )

    def _count_pause(self) -> None:
        if self._paused_since is not None:
            now = asyncio.get_running_loop().time()
            self._session.stats.paused_seconds += now - self._paused_since
            self._paused_since = now
