"""`telemetry ingest`: one process between any broker and any database that the settings name."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Final
from uuid import UUID

import structlog

from telemetry.domains import load_domains
from telemetry.errors import ConfigurationError
from telemetry.ingest.accounts import Accounts
from telemetry.ingest.detour import Detour
from telemetry.ingest.devices import Devices
from telemetry.ingest.exposition import Page, shown, told
from telemetry.ingest.intake import Intake
from telemetry.ingest.metrics import Metrics
from telemetry.ingest.pipeline import Pipeline
from telemetry.ingest.preparation import Preparation
from telemetry.ingest.routes import Routes
from telemetry.ingest.shares import Share, shares
from telemetry.ingest.spool import Spool
from telemetry.ingest.tasks import end, together, unless
from telemetry.mqtt.subscriber import Subscriber
from telemetry.settings import Settings
from telemetry.store.allowance import Allowance
from telemetry.store.failures import Failure, classify
from telemetry.store.migrate import check
from telemetry.store.sessions import Known, Sessions
from telemetry.store.writer import Writer

log = structlog.get_logger()

GRACE: Final = timedelta(seconds=2.5)
"""For what was received before the end is told to be committed; what is not is delivered again."""
_RETRY_S: Final = 1.0
_OBSERVE_S: Final = 0.2
_SILENCE_S: Final = 5.0
"""A session whose broker has sent nothing for so long, with nothing in flight, holds nothing."""


async def run(settings: Settings, stop: asyncio.Event, worker: int = 1, report_to: Connection | None = None) -> None:
    """Ingests until told to stop; waits for a database or a broker that is away.

    Args:
        worker: which of `ingest.workers` this process is, from 1.
        report_to: the supervisor that shows the metrics of all workers; without one they are shown here.

    Raises:
        ConfigurationError: a setting, the schema or the broker's rights are wrong. Nothing unsettled is acknowledged.
    """
    divided = shares(settings, list(load_domains(settings.domains.directories)))
    everybody = [share for one in divided for share in one]
    page = Page()
    with shown(page, settings) if report_to is None else told(page, report_to):
        work = [_take(settings, share, everybody, page, stop) for share in divided[worker - 1]]
        if worker == len(divided):
            work.append(_empty_former(settings, everybody, page, stop))
        await together(work)


async def _take(settings: Settings, share: Share, everybody: list[Share], page: Page, stop: asyncio.Event) -> None:
    """One session from its announcement to its end."""
    sessions = Sessions(settings)

    async def announce() -> Known:
        await _require_schema(settings)
        if share.strays:
            # It may leave a message only if the session of its domain was there when the message came.
            await sessions.wait_for([each.client_id for each in everybody if not each.strays])
        return await sessions.announce(share.client_id, share.filters)

    known = None
    try:
        # With a spool, the database may be away: the session is announced when it is back.
        with suppress(TimeoutError):
            async with asyncio.timeout(_patience_s(settings) if not share.strays else None):
                known = await unless(stop, announce())
        if not stop.is_set():
            await _Ingest(settings, share, known, sessions, page).run(stop)
    finally:
        await sessions.close()


async def _empty_former(settings: Settings, everybody: list[Share], page: Page, stop: asyncio.Event) -> None:
    """Takes what sessions hold that are used no more, once those that are used have subscribed, and gives them up."""
    present = [share.client_id for share in everybody]
    sessions = Sessions(settings)

    async def look() -> list[Known]:
        await _require_schema(settings)
        await sessions.wait_for(present)
        return await sessions.former(present)

    async def empty(former: Known) -> None:
        log.warning(
            "ingest_session_former",
            detail="A session is used no more; what it holds is taken.",
            client_id=former.client_id,
        )
        mine = Sessions(settings)
        try:
            await _Ingest(settings, Share(former.client_id, ()), former, mine, page).run(stop)
        finally:
            await mine.close()
            page.remove(former.client_id)

    try:
        found = await unless(stop, look())
    finally:
        await sessions.close()
    await together([empty(former) for former in found or []])


def collect_garbage_rarely() -> None:
    """Tunes Python's cyclic garbage collector for a process that only ingests.

    Messages and readings form no cycles: they are freed when the last of them is done. By default the collector walks
    through all that is in flight every few thousand messages nevertheless, a sixth of the CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class _Ingest:
    """The parts of one session, wired."""

    def __init__(self, settings: Settings, share: Share, known: Known | None, sessions: Sessions, page: Page) -> None:
        settings = settings.model_copy(update={"mqtt": settings.mqtt.model_copy(update={"client_id": share.client_id})})
        self._settings = settings
        self._share = share
        self._known = known
        self._sessions = sessions
        self._emptied = asyncio.Event()
        self._metrics = Metrics()
        page.add(share.client_id, self._metrics.registry)
        self._devices = Devices(settings)
        self._intake = Intake(settings.ingest)
        self._subscriber = Subscriber(
            settings.mqtt,
            share.filters,
            self._intake.put,
            counters=settings.mqtt.dropped_counters if share.watches else (),
            stale=known.filters if known is not None else (),
            known=known is not None and known.subscribed,
        )
        self._intake.flow = self._subscriber
        routes = Routes(settings.mqtt.topic_root, load_domains(settings.domains.directories), share.strays)
        allowance = Allowance(settings.ingest.quarantine_per_device, self._metrics.not_kept)
        self._writer = Writer(settings, share.client_id, routes.clear, allowance)
        preparation = Preparation(settings.ingest, routes, self._devices)
        self._accounts = Accounts(settings, self._subscriber, self._metrics)
        self._pipeline = Pipeline(
            self._intake, preparation, self._writer, self._subscriber.settle, self._metrics, self._accounts.clocks
        )
        self._detour = self._by_the_spool()

    async def run(self, stop: asyncio.Event) -> None:
        """Takes in until told to stop; a session that is only emptied, until it holds nothing."""
        working = asyncio.create_task(self._work(), name="ingest")
        ending = [asyncio.create_task(event.wait(), name="stop") for event in (stop, self._emptied)]
        try:
            await asyncio.wait({working, *ending}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await self._finish(working)
        finally:
            await end(working, *ending)
            if self._detour is not None:
                await self._detour.close()
            await self._accounts.close()
            await self._devices.close()
            await self._writer.close()
        if not working.cancelled():
            working.result()

    def _by_the_spool(self) -> Detour | None:
        spool = self._settings.spool
        if spool.directory is None:
            return None
        return Detour(
            spool,
            Spool(spool.directory, self._settings.mqtt.client_id, spool.quota),
            self._intake,
            self._pipeline,
            self._subscriber.settle,
            self._metrics.spool,
            ready=self._ready,
            barred=lambda: self._writer.is_barred,
            cut=self._cut,
        )

    async def _ready(self) -> UUID | None:
        await _require_schema(self._settings)
        return await self._writer.open()

    def _cut(self) -> None:
        self._writer.cut()
        self._devices.cut()

    async def _work(self) -> None:
        if self._detour is None:
            await self._writer.open()
        else:
            await self._detour.open()
        with suppress(TimeoutError):
            async with asyncio.timeout(_patience_s(self._settings)):
                await self._accounts.open()
        log.info("ingest_starts", detail="Readings are taken in.", client_id=self._share.client_id)
        parts = [
            asyncio.create_task((self._detour or self._pipeline).run(), name="pipeline"),
            asyncio.create_task(self._subscriber.run(), name="subscriber"),
            asyncio.create_task(self._observe(), name="observe"),
            asyncio.create_task(self._accounts.run(), name="accounts"),
            asyncio.create_task(self._record(), name="record"),
        ]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_EXCEPTION)
            for part in done:
                part.result()
        finally:
            await end(*parts)

    async def _finish(self, working: asyncio.Task[None]) -> None:
        """Stops reading, commits and acknowledges what was read, and leaves; the broker keeps the session."""
        # Whatever the intake has room for by now, nothing more is read.
        self._intake.flow = None
        self._subscriber.pause()
        self._intake.close()
        closing = asyncio.create_task(self._subscriber.close(GRACE), name="close")
        await asyncio.wait({closing, working}, timeout=2 * GRACE.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        await end(closing)
        log.info(
            "ingest_stopped", detail="What was not committed stays with the broker.", client_id=self._share.client_id
        )

    async def _observe(self) -> None:
        while True:
            self._metrics.observe(self._subscriber.stats, self._intake.waiting)
            self._accounts.note()
            await asyncio.sleep(_OBSERVE_S)

    async def _record(self) -> None:
        """Puts on record what the broker has confirmed; a session that is only emptied is struck off."""
        while not self._subscriber.stats.arranged:  # noqa: ASYNC110 - the session has no event loop to tell us in
            await asyncio.sleep(_OBSERVE_S)
        if self._share.filters:
            known = self._known or await self._sessions.announce(self._share.client_id, self._share.filters)
            if known is self._known or not known.filters:
                await self._sessions.confirm(self._share.client_id, self._share.filters)
            await self._sessions.close()
            return
        await self._silence()
        await self._sessions.forget(self._share.client_id)
        log.info("ingest_session_emptied", detail="It held no more messages.", client_id=self._share.client_id)
        self._emptied.set()

    async def _silence(self) -> None:
        """Waits until the broker has sent nothing for a while, although it could, and all is settled."""
        seen, looks = -1, 0
        while looks < _SILENCE_S / _OBSERVE_S:
            await asyncio.sleep(_OBSERVE_S)
            stats = self._subscriber.stats
            silent = stats.connected and not stats.in_flight and not self._intake.waiting
            looks = looks + 1 if silent and stats.messages_received == seen else 0
            seen = stats.messages_received


def _patience_s(settings: Settings) -> float | None:
    """How long to wait for the database before anything is taken; for ever, if there is no spool to take it to."""
    return settings.spool.after.total_seconds() if settings.spool.directory is not None else None


async def _require_schema(settings: Settings) -> None:
    """Waits for the database, and makes sure that it has our tables."""
    warned = False
    while True:
        try:
            problems = await check(settings)
        except Exception as error:
            if classify(error) is not Failure.RETRY:
                raise
            if not warned:
                log.warning("database_away", detail="The database does not serve us; ingest waits.", error=str(error))
            warned = True
            await asyncio.sleep(_RETRY_S)
        else:
            if problems:
                raise ConfigurationError("\n".join(problems))
            return
