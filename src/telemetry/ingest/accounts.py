"""What is told beside the ledger, seldom and over a connection of its own: it never delays a message.

While the database is away it waits with what it has, in bounded memory; what a crash takes of it is measured again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import structlog

from telemetry.errors import ConfigurationError
from telemetry.ingest.clocks import Clocks
from telemetry.ingest.losses import Losses, hour_of_now
from telemetry.ingest.metrics import Metrics
from telemetry.mqtt.subscriber import Subscriber
from telemetry.settings import Settings
from telemetry.store import broker_losses
from telemetry.store import clocks as clocks_table
from telemetry.store.link import Link

log = structlog.get_logger()

EVERY_S: Final = 10.0
_LAST_WITHIN_S: Final = 0.5


class Accounts:
    """Writes the devices' clocks and the broker's losses.

    Attributes:
        clocks: to be shown every batch.
    """

    def __init__(self, settings: Settings, subscriber: Subscriber, metrics: Metrics) -> None:
        self.clocks = Clocks()
        self._broker = f"{settings.mqtt.host}:{settings.mqtt.port}"
        self._worker = settings.mqtt.client_id
        self._losses = Losses(subscriber.drops, subscriber.stats, metrics.broker_dropped)
        self._metrics = metrics
        self._resumed = False
        self._link = Link(settings, "ingest accounts")

    async def open(self) -> None:
        """Goes on from where a process before this one stopped; to be done before the subscriber runs."""
        try:
            former = await self._link.call(
                lambda database: broker_losses.load(database, self._broker, self._worker, hour_of_now())
            )
        except ConfigurationError as error:
            _give_up(error)
            return
        self._losses.resume(former)
        self._resumed = True

    def note(self) -> None:
        """Takes over what the session has counted."""
        self._losses.note()

    async def run(self) -> None:
        """Writes until cancelled; gives up, and says so, where the database refuses it for good."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                if not self._resumed:
                    await self.open()
                await self._write()
        except ConfigurationError as error:
            _give_up(error)

    async def close(self) -> None:
        """Writes what there is, if the database takes it at once, and closes the connection."""
        self.note()
        try:
            with suppress(ConfigurationError):
                if self._resumed:
                    await asyncio.wait_for(self._write(), _LAST_WITHIN_S)
        except TimeoutError:
            self._link.cut()
        await self._link.close()

    async def _write(self) -> None:
        # The losses first: of what is measured anew all the time, less would be missed.
        if (standing := self._losses.news()) is not None:
            await self._link.call(lambda database: broker_losses.save(database, self._broker, self._worker, *standing))
            self._losses.written(standing)
        news = self.clocks.news()
        self._metrics.skewed(self.clocks.skewed())
        if news:
            await self._link.call(lambda database: clocks_table.save(database, news))


def _give_up(error: ConfigurationError) -> None:
    log.error("accounts_refused", detail="Clocks and losses of the broker are not written.", error=str(error))
