"""The parts of one session at the broker, wired: from the subscriber to the writer, run and ended together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from telemetry.domains import load_domains
from telemetry.errors import ConfigurationError
from telemetry.ingest.accounts import Accounts
from telemetry.ingest.detour import Detour
from telemetry.ingest.devices import Devices
from telemetry.ingest.exposition import Page
from telemetry.ingest.intake import Intake
from telemetry.ingest.metrics import Metrics
from telemetry.ingest.pipeline import Pipeline
from telemetry.ingest.preparation import Preparation
from telemetry.ingest.qos0 import Dropped
from telemetry.ingest.routes import Routes
from telemetry.ingest.schema import wait_for_schema
from telemetry.ingest.shares import Share
from telemetry.ingest.spool import Spool
from telemetry.ingest.tasks import end
from telemetry.mqtt.drops import VERSION
from telemetry.mqtt.subscriber import Subscriber
from telemetry.settings import Settings
from telemetry.store.allowance import Allowance
from telemetry.store.sessions import Known, Sessions
from telemetry.store.writer import Writer

log = structlog.get_logger()

GRACE: Final = timedelta(seconds=2.5)
"""For what was received before the end is told to be committed; what is not is delivered again."""
_LEAVE_WITHIN_S: Final = 0.5
"""For the database to end what is broken off then; where it does not, its connections are cut."""
_OBSERVE_S: Final = 0.2
_ANSWER_EVERY_S: Final = 1.0
_ECHOES: Final = 2
_SILENCE_S: Final = 5.0
"""A session whose broker has sent nothing for so long and answers, with nothing of it on our side, holds nothing."""


class Assembly:
    """The parts of one session.

    Args:
        share: what the session takes.
        known: what was on record of it; None where the database was away when it was asked.
        sessions: the record, to be told what the broker has confirmed; its connection is closed at the end.
        page: where its metrics are shown.
    """

    def __init__(self, settings: Settings, share: Share, known: Known | None, sessions: Sessions, page: Page) -> None:
        settings = settings.model_copy(update={"mqtt": settings.mqtt.model_copy(update={"client_id": share.client_id})})
        self._settings = settings
        self._share = share
        self._known = known
        self._sessions = sessions
        self._emptied = asyncio.Event()
        self._replaced = asyncio.Event()
        self._metrics = Metrics()
        page.add(share.client_id, self._metrics.registry)
        self._dropped = Dropped(share.client_id)
        self._warned = False
        self._devices = Devices(settings)
        self._intake = Intake(settings.ingest)
        self._subscriber = Subscriber(
            settings.mqtt,
            share.filters,
            self._intake.put,
            counters=_asked(settings) if share.watches else (),
            stale=known.filters if known is not None else (),
            known=known is not None and known.subscribed,
            keep=settings.ingest.max_payload_bytes + 1,
        )
        self._intake.flow = self._subscriber
        routes = Routes(settings.mqtt.topic_root, load_domains(settings.domains.directories), share.strays)
        allowance = Allowance(settings.ingest.quarantine_per_device, self._metrics.not_kept)
        self._writer = Writer(settings, share.client_id, routes.clear, allowance)
        self._metrics.ask(standby=lambda: self._writer.is_barred, database_away=lambda: self._writer.is_away)
        preparation = Preparation(settings.ingest, routes, self._devices)
        self._accounts = Accounts(settings, self._subscriber, self._metrics)
        self._pipeline = Pipeline(
            self._intake, preparation, self._writer, self._subscriber.settle, self._metrics, self._accounts.clocks
        )
        self._detour = self._by_the_spool()

    async def run(self, stop: asyncio.Event) -> bool:
        """Takes in until told to stop; a session that is only emptied, until it holds nothing.

        Returns:
            Whether another process works under its name, so that this one has left the broker to it; assembled anew, it
            stands by.
        """
        working = asyncio.create_task(self._work(), name="ingest")
        ending = [asyncio.create_task(event.wait(), name="stop") for event in (stop, self._emptied, self._replaced)]
        try:
            await asyncio.wait({working, *ending}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await self._finish(working)
        finally:
            await self._break_off(working)
            await end(*ending)
            if self._detour is not None:
                await self._detour.close()
            self._dropped.tell()
            # All at once: each may have to give up a server that has stopped answering, and the end must not wait long.
            await asyncio.gather(
                self._accounts.close(), self._devices.close(), self._writer.close(), self._sessions.close()
            )
        if not working.cancelled():
            working.result()
        return self._replaced.is_set()

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
            alone=self._writer.open,
            barred=lambda: self._writer.is_barred,
            cut=self._cut,
        )

    async def _ready(self, place: UUID) -> Collection[UUID]:
        await wait_for_schema(self._settings)
        self._writer.place = place
        return await self._writer.known()

    def _cut(self) -> None:
        self._writer.cut()
        self._devices.cut()

    async def _work(self) -> None:
        if self._detour is None:
            await self._writer.open()
        else:
            await self._detour.open()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s(self._settings)):
                await self._accounts.open()
        log.info(
            "ingest_starts",
            detail="Ready to take readings in; the broker is asked for them next.",
            client_id=self._share.client_id,
        )
        parts = [
            asyncio.create_task((self._detour or self._pipeline).run(), name="pipeline"),
            asyncio.create_task(self._subscribe(), name="subscriber"),
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

    async def _subscribe(self) -> None:
        try:
            await self._subscriber.run()
        except ConfigurationError:
            # A session that is only emptied may be refused for good, but what is in its spool needs no broker.
            while not (self._share.filters or self._holds_nothing):  # noqa: ASYNC110 - what other tasks do
                await asyncio.sleep(_OBSERVE_S)
            raise

    async def _finish(self, working: asyncio.Task[None]) -> None:
        """Stops reading, commits and acknowledges what was read, and leaves; the broker keeps the session."""
        # Whatever the intake has room for by now, nothing more is read.
        self._intake.flow = None
        self._subscriber.pause()
        self._intake.close()
        closing = asyncio.create_task(self._subscriber.close(GRACE), name="close")
        await asyncio.wait({closing, working}, timeout=2 * GRACE.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        await end(closing)
        await self._break_off(working)
        client_id = self._share.client_id
        if self._detour is None or (left := self._detour.left) is None:
            log.info("ingest_stopped", detail="What was not committed stays with the broker.", client_id=client_id)
            return
        log.warning(
            "ingest_stopped",
            detail="The messages in the spool are acknowledged and nowhere else; they are stored when ingest runs "
            "again. What is neither there nor committed stays with the broker.",
            client_id=client_id,
            file=str(left[0]),
            messages=left[1],
        )

    async def _break_off(self, working: asyncio.Task[None]) -> None:
        """Ends the work where it stands."""
        working.cancel()
        if (await asyncio.wait({working}, timeout=_LEAVE_WITHIN_S))[1]:
            # It takes leave of its transaction, statement by statement, and the server does not answer.
            self._cut()
        await end(working)

    async def _observe(self) -> None:
        while True:
            oldest_us = (self._detour or self._pipeline).oldest_us
            self._metrics.observe(self._subscriber.stats, self._intake.waiting, oldest_us)
            self._accounts.note()
            self._look_at_broker()
            self._dropped.note(self._subscriber.stats.qos0_dropped, time.monotonic())
            if self._writer.is_barred and not self._replaced.is_set():
                # We had lost our way to the database, and it has taken us for dead. To go on would be to take the
                # session at the broker from that process, and it from us, in turns.
                log.warning(
                    "ingest_replaced",
                    detail="Another process has taken over; this one leaves the broker to it and stands by.",
                    client_id=self._share.client_id,
                )
                self._replaced.set()
            await asyncio.sleep(_OBSERVE_S)

    def _look_at_broker(self) -> None:
        """Warns of one that is known to be unfit for shared subscriptions."""
        version = self._subscriber.drops.version
        if version is not None and version.startswith("mosquitto") and not self._warned:
            self._warned = True
            log.warning(
                "ingest_share_unfit",
                detail="ingest.share is broker, and Mosquitto shares messages out to members that are away, too: those "
                "wait until that very worker is back. Set ingest.share to topics (docs/workers.md).",
                broker=version,
            )

    async def _record(self) -> None:
        """Puts on record what the broker has confirmed, then answers for it; what is only emptied is struck off."""
        while not self._subscriber.stats.arranged:  # noqa: ASYNC110 - the session has no event loop to tell us in
            await asyncio.sleep(_OBSERVE_S)
        if self._share.filters:
            known = self._known or await self._sessions.announce(self._share.client_id, self._share.filters)
            if known is self._known or not known.filters:
                await self._sessions.confirm(self._share.client_id, self._share.filters)
            await self._answer()
        await self._silence()
        await self._sessions.forget(self._share.client_id)
        log.info("ingest_session_emptied", detail="It held no more messages.", client_id=self._share.client_id)
        self._emptied.set()

    async def _answer(self) -> None:
        """Says that the broker has the session, for as long as it does; and whether it had forgotten it before."""
        noted = 0 if self._known is not None else -1  # of what was never known, nobody could say that it was lost
        while True:
            stats = self._subscriber.stats
            if stats.connected:
                lost = stats.sessions_lost
                await self._sessions.answer(self._share.client_id, made_anew=lost > noted)
                noted = lost
            await asyncio.sleep(_ANSWER_EVERY_S)

    async def _silence(self) -> None:
        """Waits until nothing of the session is left, at the broker or here."""
        while not await self._is_silent():  # noqa: ASYNC110 - it looks at what other tasks do
            await asyncio.sleep(_OBSERVE_S)

    async def _is_silent(self) -> bool:
        """Whether the broker had nothing more for us, although it could have sent it.

        That nothing comes says little: a network may stall, a broker be slow. So it must answer, too, over the same
        connection, to questions that were asked after our last acknowledgement, with no message before any answer.
        """
        stats = self._subscriber.stats
        seen = stats.connections, stats.messages_received
        for _ in range(_ECHOES):
            await asyncio.sleep(_SILENCE_S / _ECHOES)
            if not (self._holds_nothing and await self._subscriber.echo() and self._holds_nothing):
                return False
            if (stats.connections, stats.messages_received) != seen:
                return False
        return True

    @property
    def _holds_nothing(self) -> bool:
        """Whether everything that was received is committed."""
        if self._subscriber.stats.in_flight or self._pipeline.oldest_us is not None:
            return False
        return self._detour is None or self._detour.holds_nothing


def _asked(settings: Settings) -> list[str]:
    """What the broker is asked about itself."""
    return [*settings.mqtt.dropped_counters, *([VERSION] if settings.ingest.share == "broker" else [])]


def patience_s(settings: Settings) -> float | None:
    """How long to wait for the database before anything is taken; for ever, if there is no spool to take it to."""
    return settings.spool.after.total_seconds() if settings.spool.directory is not None else None
