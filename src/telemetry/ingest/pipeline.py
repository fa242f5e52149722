"""The way of a batch, with two of them under way: while one is being committed, the next is being prepared."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

from telemetry.ingest.clocks import Clocks
from telemetry.ingest.intake import Intake
from telemetry.ingest.metrics import Metrics
from telemetry.ingest.preparation import Preparation
from telemetry.store.batch import Batch
from telemetry.store.writer import Writer

_AHEAD: Final = 1
"""Prepared batches that wait for the writer."""


class Settle(Protocol):
    """Acknowledges messages to the broker."""

    def __call__(self, first: int, end: int) -> None:
        """The messages [first, end) are committed."""


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
            raise errors.exceptions[0] from None

    async def _prepare(self) -> None:
        while arrivals := await self._intake.take():
            batch = await self._preparation.batch(arrivals)
            self._clocks.observe(batch)
            await self._prepared.put(batch)
        await self._prepared.put(None)

    async def _write(self) -> None:
        while (batch := await self._prepared.get()) is not None:
            began = time.perf_counter()
            counts = await self._writer.write(batch)
            self._settle(batch.first, batch.end)
            self._metrics.settled(batch, counts, time.perf_counter() - began)
