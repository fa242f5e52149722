"""`telemetry ingest`: one process between any broker and any database that the settings name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import start_http_server

from telemetry.domains import load_domains
from telemetry.errors import ConfigurationError
from telemetry.ingest.detour import Detour
from telemetry.ingest.devices import Devices
from telemetry.ingest.intake import Intake
from telemetry.ingest.metrics import Metrics
from telemetry.ingest.pipeline import Pipeline
from telemetry.ingest.preparation import Preparation
from telemetry.ingest.routes import Routes
from telemetry.ingest.spool import Spool
from telemetry.mqtt.subscriber import Subscriber
from telemetry.settings import Settings
from telemetry.store.failures import Failure, classify
from telemetry.store.migrate import check
from telemetry.store.writer import Writer

log = structlog.get_logger()

GRACE: Final = timedelta(seconds=4)
"""For what was received before the end is told to be committed; what is not is delivered again."""
_RETRY_S: Final = 1.0
_OBSERVE_S: Final = 0.2


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Ingests until told to stop; waits for a database or a broker that is away.

    Raises:
        ConfigurationError: a setting, the schema or the broker's rights are wrong. Nothing unsettled is acknowledged.
    """
    metrics = Metrics()
    with _shown(metrics, settings):
        await _Ingest(settings, metrics).run(stop)


class _Ingest:
    """The parts of one process, wired."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._devices = Devices(settings)
        self._intake = Intake(settings.ingest)
        self._subscriber = Subscriber(settings.mqtt, [f"{settings.mqtt.topic_root}/#"], self._intake.put)
        self._intake.flow = self._subscriber
        routes = Routes(settings.mqtt.topic_root, load_domains(settings.domains.directories))
        self._writer = Writer(settings, settings.mqtt.client_id, on_connect=routes.clear)
        preparation = Preparation(settings.ingest, routes, self._devices)
        self._pipeline = Pipeline(self._intake, preparation, self._writer, self._subscriber.settle, metrics)
        self._detour = self._by_the_spool()

    async def run(self, stop: asyncio.Event) -> None:
        working = asyncio.create_task(self._work(), name="ingest")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await self._finish(working)
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.wait({working, stopping})
            if self._detour is not None:
                await self._detour.close()
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
            await self._ready()
        else:
            await self._detour.open()
        log.info("ingest_starts", detail="Readings are taken in.", client_id=self._settings.mqtt.client_id)
        parts = [
            asyncio.create_task((self._detour or self._pipeline).run(), name="pipeline"),
            asyncio.create_task(self._subscriber.run(), name="subscriber"),
            asyncio.create_task(self._observe(), name="observe"),
        ]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_EXCEPTION)
            for part in done:
                part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.wait(parts)

    async def _finish(self, working: asyncio.Task[None]) -> None:
        """Stops reading, commits and acknowledges what was read, and leaves; the broker keeps the session."""
        # Whatever the intake has room for by now, nothing more is read.
        self._intake.flow = None
        self._subscriber.pause()
        self._intake.close()
        closing = asyncio.create_task(self._subscriber.close(GRACE), name="close")
        await asyncio.wait({closing, working}, timeout=2 * GRACE.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        with suppress(asyncio.CancelledError):
            await closing
        log.info("ingest_stopped", detail="What was not committed stays with the broker.")

    async def _observe(self) -> None:
        while True:
            self._metrics.observe(self._subscriber.stats, self._intake.waiting)
            await asyncio.sleep(_OBSERVE_S)


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


@contextmanager
def _shown(metrics: Metrics, settings: Settings) -> Iterator[None]:
    """Serves the metrics while the block runs."""
    host, port = settings.ingest.metrics_host, settings.ingest.metrics_port
    if port == 0:
        yield
        return
    try:
        server, thread = start_http_server(port, host, metrics.registry)
    except OSError as error:
        raise ConfigurationError(
            f"the metrics of ingest cannot be shown on {host}:{port}: {error.strerror}; "
            "choose another ingest.metrics_port, or 0 for none"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
