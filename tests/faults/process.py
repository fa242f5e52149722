"""`telemetry ingest` as a process of its own, which can be frozen, killed and told to end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from telemetry.demo.server import free_port
from telemetry.settings import Settings
from tests.faults.nursery import Child, Nursery
from tests.support.ingesting import PATIENCE_S, is_subscribed

_STANDS: Final = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)


class IngestProcess:
    """One process, from its start to its end.

    Args:
        log: what it says is appended there.
        overrides: dotted names of settings to values.
        module: what `python -m` runs.
    """

    def __init__(
        self, nursery: Nursery, settings: Settings, log: Path, overrides: Mapping[str, Any], module: str = "telemetry"
    ) -> None:
        self._nursery = nursery
        self._settings = settings
        self._log = log
        self._overrides = overrides
        self._module = module
        self._metrics_port = free_port()
        self._child: Child | None = None

    async def start(self) -> None:
        """Starts it; it may still be far from subscribing."""
        self._child = await asyncio.to_thread(self._nursery.start, self._module, [*self._flags(), "ingest"], self._log)

    async def subscribed(self) -> None:
        """Waits until the broker has accepted it."""
        url = f"http://{self._settings.ingest.metrics_host}:{self._metrics_port}/metrics"
        async with asyncio.timeout(2 * PATIENCE_S):
            while not await is_subscribed(url):
                assert self.alive, self.last_words
                await asyncio.sleep(0.05)

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._child is not None and self._child.code is None

    @property
    def last_words(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-3_000:]

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal, if it still lives."""
        if self._child is not None:
            self._child.send(number)

    async def freeze(self) -> None:
        """Stops it where it stands (SIGSTOP), and returns when it stands: a signal alone may come some steps later."""
        assert self._child is not None
        self.send(signal.SIGSTOP)
        while self.alive and psutil.Process(self._child.pid).status() not in _STANDS:
            await asyncio.sleep(0)

    async def kill(self) -> None:
        """Ends it as `kill -9` does."""
        self.send(signal.SIGKILL)
        await self.wait()

    async def stop(self) -> int:
        """Asks it to end; returns its exit code."""
        self.send(signal.SIGTERM)
        return await self.wait()

    async def wait(self) -> int:
        """Waits for its end; returns its exit code.

        Raises:
            TimeoutError: it does not end.
        """
        assert self._child is not None
        if not await asyncio.to_thread(self._child.ended.wait, PATIENCE_S):
            raise TimeoutError(f"ingest does not end: {self.last_words}")
        assert self._child.code is not None
        return self._child.code

    def _flags(self) -> list[str]:
        ours = self._settings
        values = {
            "database.url": ours.database.url.get_secret_value(),
            "database.engine": ours.database.engine,
            "mqtt.host": ours.mqtt.host,
            "mqtt.port": ours.mqtt.port,
            "mqtt.topic_root": ours.mqtt.topic_root,
            "mqtt.client_id": ours.mqtt.client_id,
            "ingest.metrics_port": self._metrics_port,
            **self._overrides,
        }
        return [f"--set={name}={value}" for name, value in values.items()]


@asynccontextmanager
async def running(process: IngestProcess) -> AsyncIterator[IngestProcess]:
    """Runs it, subscribed at the beginning of the block, ended at its end whatever has happened."""
    await process.start()
    try:
        await process.subscribed()
        yield process
    finally:
        process.send(signal.SIGCONT)
        try:
            await process.stop()
        except TimeoutError:
            await process.kill()
            raise
