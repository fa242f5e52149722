"""A case from its first message to its account: broker, database, ingest, publisher and what goes wrong."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from telemetry.settings import Settings
from telemetry.store.pool import connection as connected
from tests.faults.account import Account, take_account
from tests.faults.nursery import Nursery
from tests.faults.process import IngestProcess, running
from tests.faults.publisher import DOMAIN, Publisher
from tests.faults.report import FaultReport

SMALL_BATCHES = {"ingest.batch_rows": 200, "ingest.batch_age": "20ms"}
"""Many transactions, so that faults fall among them."""
END_WITHIN_S = 5.0 if os.environ.get("TELEMETRY_TEST_FAULTS") == "all" else 30.0
"""How long ingest may take to end. The promise is 5 s; `make test` has other tests running beside these."""
REST_S = 120.0
"""Without a new row for so long, nothing more is expected."""


class Scene:
    """One case.

    Args:
        settings: of ingest and of the publisher.
        folder: for the log of ingest.
        nursery: where its processes come from.
    """

    def __init__(self, settings: Settings, folder: Path, nursery: Nursery, report: FaultReport) -> None:
        self.settings = settings
        self.log = folder / "ingest.log"
        self.folder = folder
        self._nursery = nursery
        self._report = report
        self._began = time.monotonic()

    def process(self, module: str = "telemetry", **overrides: Any) -> IngestProcess:
        """A process of ingest, not started; overrides are settings with `__` for the dot."""
        named = {name.replace("__", "."): value for name, value in overrides.items()}
        return IngestProcess(self._nursery, self.settings, self.log, SMALL_BATCHES | named, module)

    def ingesting(self, module: str = "telemetry", **overrides: Any) -> AbstractAsyncContextManager[IngestProcess]:
        """A process of ingest that is subscribed while the block runs and ends in order after it."""
        return running(self.process(module, **overrides))

    async def known_to_the_broker(self) -> None:
        """Makes the broker keep what is published from now on: it keeps nothing for a subscriber it has never seen."""
        async with self.ingesting():
            pass

    def through(self, port: int) -> str:
        """The URL of the database by another port."""
        parts = urlsplit(self.settings.database.url.get_secret_value())
        return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{port}"))

    def database(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """A connection of the test's own."""
        return connected(self.settings, "test")

    async def grown(self, rows: int, within_s: float = 180.0) -> None:
        """Waits until the table has so many rows more; the load must be on."""
        async with self.database() as database:
            wanted = await _rows(database) + rows
            async with asyncio.timeout(within_s):
                while await _rows(database) < wanted:
                    await asyncio.sleep(0.02)

    async def says(self, words: str, within_s: float = 180.0) -> None:
        """Waits until the log of ingest has these words."""
        async with asyncio.timeout(within_s):
            while words not in self.log.read_text(errors="replace"):
                await asyncio.sleep(0.05)

    async def settled(self, publisher: Publisher, rest_s: float = REST_S) -> None:
        """Waits until everything that the broker answers for is in the tables, or nothing moves any more."""
        await publisher.drain()
        wanted = len(publisher.good), len(publisher.acked & publisher.refused.keys())
        async with self.database() as database:
            seen, since = (-1, -1), time.monotonic()
            while (now := (await _rows(database), await _refused(database))) < wanted or now[1] < wanted[1]:
                if now != seen:
                    seen, since = now, time.monotonic()
                if time.monotonic() - since > rest_s:
                    return
                await asyncio.sleep(0.1)

    async def account(self, case: str, publisher: Publisher, note: str = "") -> Account:
        """Takes the account, when ingest has ended, and enters it in the report."""
        async with self.database() as database:
            account = await take_account(database, publisher)
        account.case, account.note = case, note
        account.engine = self.settings.database.engine
        account.seconds = time.monotonic() - self._began
        self._report.accounts.append(account)
        return account


@asynccontextmanager
async def loaded(publisher: Publisher, rate: float) -> AsyncIterator[None]:
    """The publisher publishes at that rate while the block runs."""
    task = asyncio.create_task(publisher.run(rate), name="load")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _rows(database: asyncpg.Connection) -> int:
    count: int = await database.fetchval(f"SELECT count(*) FROM {DOMAIN}_readings")
    return count


async def _refused(database: asyncpg.Connection) -> int:
    count: int = await database.fetchval(
        """
        SELECT coalesce(sum(readings), 0)::bigint FROM ledger
        WHERE outcome NOT IN ('received', 'stored', 'merged', 'duplicate')
        """
    )
    return count
