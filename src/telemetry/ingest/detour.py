"""The way of batches when the database may be away for longer than the broker can wait: by the spool.

    direct    intake ─▶ pipeline ─▶ database, as without a spool
    detour    intake ─▶ spool ─▶ acknowledgement
                          └─▶ database, oldest first, as soon as it serves us again

Direct becomes detour when nothing was settled for `spool.after` although something waited: the batches under way are
taken back and go to the spool first, for acknowledgements go in the order of receipt. One of them may be committed all
the same; the writer recognises it by its id. Detour becomes direct when the spool is empty and nothing is in hand.
Where the spool has no room, what is in hand waits, so the intake fills and reading pauses; when the spool is empty,
what is in hand goes to the database straight, so that a disk without any room stops nothing for ever.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

import structlog

from telemetry.errors import Unavailable
from telemetry.ingest.intake import Intake
from telemetry.ingest.parcel import Parcel
from telemetry.ingest.pipeline import Pipeline, Settle
from telemetry.ingest.spool import Spool, SpoolFull
from telemetry.ingest.spool_metrics import SpoolMetrics
from telemetry.settings import SpoolSettings

log = structlog.get_logger()

Result = TypeVar("Result")

_RETRY_S: Final = 1.0
_WATCH_S: Final = 0.1


class Detour:
    """Leads batches to the database, straight or by the spool.

    Args:
        ready: given the place of the spool, waits for the database and its tables; returns the ids of the last batches
            that were committed under our name.
        alone: waits until no other process works under our name.
        barred: whether the database is there, but another process does.
        cut: breaks the connections to the database off, so that what waits for it can be cancelled.
    """

    def __init__(
        self,
        settings: SpoolSettings,
        spool: Spool,
        intake: Intake,
        pipeline: Pipeline,
        settle: Settle,
        metrics: SpoolMetrics,
        *,
        ready: Callable[[UUID], Awaitable[Collection[UUID]]],
        alone: Callable[[], Awaitable[None]],
        barred: Callable[[], bool],
        cut: Callable[[], None],
    ) -> None:
        self._after_s = settings.after.total_seconds()
        self._spool = spool
        self._intake = intake
        self._pipeline = pipeline
        self._settle = settle
        self._metrics = metrics
        self._wait_until_ready = ready
        self._wait_until_alone = alone
        self._barred = barred
        self._cut = cut
        self._ready: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "spool")
        self._in_hand: deque[Parcel] = deque()
        self._head = asyncio.Lock()
        self._room = asyncio.Event()
        self._warned = False
        # What an earlier process has left is known when the spool is open.
        metrics.holds(math.nan, math.nan)

    @property
    def oldest_us(self) -> int | None:
        """When the oldest message was received that is not acknowledged, in µs since 1970."""
        return self._in_hand[0].arrivals[0].received_us if self._in_hand else self._pipeline.oldest_us

    @property
    def holds_nothing(self) -> bool:
        """Whether nothing waits for the database: neither acknowledged, in the spool, nor in hand."""
        return not self._in_hand and not self._spool.exists

    @property
    def left(self) -> tuple[Path, int] | None:
        """The file in which messages wait that are acknowledged, and how many; None where none do."""
        return (self._spool.path, self._spool.messages) if self._spool.messages else None

    async def open(self) -> None:
        """Takes the spool, and gives the database `spool.after` to be there; to be called before messages can come.

        Where another process works under our name, it waits for that one's end: it must not get at its session. What is
        in the spool is committed meanwhile.
        """
        await self._take_spool()
        self._metrics.spooling(self._spool.exists)
        await self._measure()
        self._ready = asyncio.create_task(self._begin(), name="ready")
        await asyncio.wait({self._ready}, timeout=self._after_s)
        if self._barred():
            standing = asyncio.create_task(self._stand_by(self._ready), name="stand by")
            try:
                await asyncio.wait({standing})
            finally:
                await self._give_up(standing)
            standing.result()

    async def run(self) -> None:
        """Works until the intake is closed and drained; what is in the spool by then stays there.

        Raises:
            ConfigurationError: a fault of ours, or the spool is damaged; nothing more is acknowledged.
        """
        while not await (self._go_straight() if self._may_go_straight() else self._go_around()):
            pass

    async def close(self) -> None:
        """Leaves the spool to the next process."""
        if self._ready is not None:
            await self._give_up(self._ready)
        await self._do(self._spool.close)
        self._thread.shutdown()

    async def _take_spool(self) -> None:
        warned = False
        while True:
            try:
                await self._do(self._spool.open)
            except Unavailable as error:
                if not warned:
                    log.warning(
                        "spool_unavailable", detail="The spool cannot be opened; ingest waits.", error=str(error)
                    )
                warned = True
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def _begin(self) -> None:
        committed = await self._wait_until_ready(self._spool.place)
        # An earlier process may have been killed between a commit and the removal from the spool.
        while not await self._managed(self._do(self._spool.remove_committed, committed)):
            pass

    async def _stand_by(self, ready: asyncio.Task[None]) -> None:
        await asyncio.shield(ready)
        while self._barred() and self._spool.exists:
            await self._managed(self._advance())
        await self._wait_until_alone()

    async def _managed(self, work: Awaitable[None]) -> bool:
        """Whether the disk has allowed it; otherwise a moment has passed."""
        try:
            await work
        except SpoolFull as error:
            log.warning("spool_fails", detail="The spool cannot be drained; it is tried again.", error=str(error))
            await asyncio.sleep(_RETRY_S)
            return False
        return True

    def _may_go_straight(self) -> bool:
        assert self._ready is not None
        if self._ready.done():
            self._ready.result()
        return self._ready.done() and not self._in_hand and not self._spool.exists

    async def _go_straight(self) -> bool:
        """Until the intake is drained (True), or the database has been away for too long (False)."""
        self._metrics.spooling(False)
        running = asyncio.create_task(self._pipeline.run(), name="straight")
        try:
            while not running.done() and self._pipeline.stands_still_s() < self._after_s:
                await asyncio.wait({running}, timeout=min(_WATCH_S, self._after_s))
        finally:
            await self._give_up(running)
        if not running.cancelled():
            running.result()
            return True
        self._in_hand.extend(self._pipeline.withdraw())
        return False

    async def _go_around(self) -> bool:
        """Until the intake is drained (True), or the spool (False)."""
        began = time.monotonic()
        log.warning(
            "spooling_begins",
            detail="The database is or was away; messages are acknowledged from the spool until it has caught up.",
            file=str(self._spool.path),
            messages=self._spool.messages,
        )
        self._metrics.spooling(True)
        appending = asyncio.create_task(self._append(), name="append")
        draining = asyncio.create_task(self._drain(appending), name="drain")
        try:
            await asyncio.wait({appending, draining}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._give_up(draining)
            appending.cancel()
            await asyncio.wait({appending})
        for task in (appending, draining):
            if not task.cancelled():
                task.result()
        if not appending.cancelled():
            return True
        self._metrics.spooling(False)
        self._note_room(None)
        self._warned = False
        log.info("spooling_ends", detail="The database has everything.", seconds=round(time.monotonic() - began, 1))
        return False

    async def _append(self) -> None:
        """Keeps what comes, until the intake is drained."""
        while self._in_hand or await self._take():
            async with self._head:
                kept = not self._in_hand or await self._keep(self._in_hand[0])
            if not kept:
                self._room.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_RETRY_S):
                        await self._room.wait()

    async def _take(self) -> bool:
        arrivals = await self._intake.take()
        if arrivals:
            self._in_hand.append(Parcel(uuid4(), arrivals))
        return bool(arrivals)

    async def _keep(self, parcel: Parcel) -> bool:
        """Whether there was room; if so, the messages are acknowledged."""
        try:
            await self._do(self._spool.append, parcel)
        except SpoolFull as error:
            self._note_room(error)
            return False
        self._note_room(None)
        self._acknowledge(parcel)
        self._metrics.spooled(parcel.end - parcel.first)
        await self._measure()
        return True

    async def _drain(self, appending: asyncio.Task[None]) -> None:
        """Commits what is in the spool, oldest first, until nothing is left; ends `appending` then."""
        assert self._ready is not None
        await asyncio.shield(self._ready)
        while True:
            if self._spool.exists:
                await self._managed(self._advance())
            elif self._in_hand:
                await self._commit_in_hand()
            else:
                # Nothing is awaited since the question: `appending` waits for the intake, and loses nothing.
                appending.cancel()
                return

    async def _advance(self) -> None:
        """Commits the oldest batch of the spool, or removes the file that has none."""
        if self._spool.messages:
            await self._pipeline.commit(await self._do(self._spool.first), acknowledged=True)
            await self._do(self._spool.remove_first)
            self._room.set()
        else:
            await self._do(self._spool.clear)
        await self._measure()

    async def _commit_in_hand(self) -> None:
        """The straight way for what the spool has no room for, or had no time to keep; not longer than it may take."""
        async with self._head:
            if not self._in_hand or self._spool.exists:
                return
            committing = asyncio.create_task(self._pipeline.commit(self._in_hand[0]), name="commit")
            try:
                await asyncio.wait({committing}, timeout=self._after_s)
            finally:
                await self._give_up(committing)
            if not committing.cancelled():
                committing.result()
                self._acknowledge(self._in_hand[0])

    def _acknowledge(self, parcel: Parcel) -> None:
        self._settle(parcel.first, parcel.end)
        self._in_hand.popleft()

    def _note_room(self, error: SpoolFull | None) -> None:
        self._metrics.full(error is not None)
        if error is not None and not self._warned:
            self._warned = True
            log.warning("spool_full", detail="Nothing is acknowledged while there is no room.", error=str(error))

    async def _measure(self) -> None:
        with suppress(SpoolFull):
            self._metrics.holds(self._spool.messages, await self._do(self._spool.size))

    async def _give_up(self, task: asyncio.Task[Any]) -> None:
        """Ends a task that may wait for a server that has stopped answering."""
        while not task.done():
            self._cut()
            task.cancel()
            await asyncio.wait({task}, timeout=_RETRY_S)

    async def _do(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
