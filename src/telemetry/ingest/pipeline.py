"""The way of a batch, with two of them under way: while one is being committed, the next is being prepared."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import uuid4

from telemetry.ingest.clocks import Clocks
from telemetry.ingest.intake import Arrival, Intake
from telemetry.ingest.metrics import Metrics
from telemetry.ingest.parcel import Parcel
from telemetry.ingest.preparation import Preparation
from telemetry.store.batch import Batch
from telemetry.store.writer import Writer

_AHEAD: Final = 1
"""Prepared batches that wait for the writer."""


class Settle(Protocol):
    """Acknowledges messages to the broker."""

    def __call__(self, first: int, end: int) -> None:
        """The messages [first, end) are committed."""


@dataclass(slots=True)
class _UnderWay:
    """What was taken and is not settled yet; `batch` once it is prepared."""

    arrivals: Sequence[Arrival]
    since: float
    batch: Batch | None = None


class Pipeline:
    """Prepares, writes and acknowledges batches in the order of their receipt."""

    def __init__(
        self,
        intake: Intake,
        preparation: Preparation,
        writer: Writer,
        settle: Settle,
        metrics: Metrics,
        clocks: Clocks,
    ) -> None:
        self._intake = intake
        self._preparation = preparation
        self._writer = writer
        self._settle = settle
        self._metrics = metrics
        self._clocks = clocks
        self._prepared: asyncio.Queue[Batch | None] = asyncio.Queue(_AHEAD)
        self._under_way: deque[_UnderWay] = deque()
        self._settled_at = 0.0

    async def run(self) -> None:
        """Works until the intake is closed and drained.

        Raises:
            ConfigurationError: a fault of ours; the batch that met it is not acknowledged, nor is any after it.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._prepare(), name="prepare")
                group.create_task(self._write(), name="write")
        except* Exception as errors:
            raise errors.exceptions[0] from errors.exceptions[0].__cause__

    @property
    def oldest_us(self) -> int | None:
        """When the oldest message was received that is not settled, in µs since 1970."""
        return self._under_way[0].arrivals[0].received_us if self._under_way else self._intake.oldest_us

    def stands_still_s(self) -> float:
        """How long nothing was settled although something waited for it, in seconds."""
        return time.monotonic() - max(self._under_way[0].since, self._settled_at) if self._under_way else 0.0

    def withdraw(self) -> list[Parcel]:
        """Takes back what is not settled, in order, after `run` was cancelled; the first may be committed or not."""
        taken = [Parcel(each.batch.id if each.batch else uuid4(), each.arrivals) for each in self._under_way]
        self._under_way.clear()
        self._prepared = asyncio.Queue(_AHEAD)
        return taken

    async def commit(self, parcel: Parcel, *, acknowledged: bool = False) -> None:
        """Prepares and writes one batch while `run` does not; unless that was done, the caller acknowledges it."""
        batch = await self._preparation.batch(parcel.arrivals)
        batch.id, batch.acknowledged = parcel.id, acknowledged
        began = time.perf_counter()
        counts = await self._writer.write(batch)
        self._metrics.settled(batch, counts, time.perf_counter() - began)

    async def _prepare(self) -> None:
        while arrivals := await self._intake.take():
            under_way = _UnderWay(arrivals, time.monotonic())
            self._under_way.append(under_way)
            under_way.batch = await self._preparation.batch(arrivals)
            self._clocks.observe(under_way.batch)
            await self._prepared.put(under_way.batch)
        await self._prepared.put(None)

    async def _write(self) -> None:
        while (batch := await self._prepared.get()) is not None:
            began = time.perf_counter()
            counts = await self._writer.write(batch)
            self._settle(batch.first, batch.end)
            self._under_way.popleft()
            self._settled_at = time.monotonic()
            self._metrics.settled(batch, counts, time.perf_counter() - began)
