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
from telemetry.ingest.metrics import Metrics
from telemetry.settings import Settings
from telemetry.store import clocks as clocks_table
from telemetry.store.link import Link

log = structlog.get_logger()

EVERY_S: Final = 10.0
_LAST_WITHIN_S: Final = 1.0


class Accounts:
    """Writes the devices' clocks."""

    def __init__(self, settings: Settings, clocks: Clocks, metrics: Metrics) -> None:
        self._clocks = clocks
        self._metrics = metrics
        self._link = Link(settings, "ingest accounts")

    async def run(self) -> None:
        """Writes until cancelled; gives up, and says so, where the database refuses it for good."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                await self._write()
        except ConfigurationError as error:
            log.error("accounts_refused", detail="Clocks are not written any more.", error=str(error))

    async def close(self) -> None:
        """Writes what there is, if the database takes it at once, and closes the connection."""
        with suppress(TimeoutError, ConfigurationError):
            await asyncio.wait_for(self._write(), _LAST_WITHIN_S)
        await self._link.close()

    async def _write(self) -> None:
        news = self._clocks.news()
        self._metrics.skewed(self._clocks.skewed())
        if news:
            await self._link.call(lambda database: clocks_table.save(database, news))
