"""`telemetry ingest` as a process of its own, with as many workers as a test wants."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from prometheus_client.parser import text_string_to_metric_families

from telemetry.demo import http
from telemetry.demo.server import free_port
from telemetry.settings import Settings

PATIENCE_S = 180.0


class Supervised:
    """A running `telemetry ingest` and what it says."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, log: Path) -> None:
        self.process = process
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._log = log

    @property
    def said(self) -> str:
        """Its standard error, and that of its workers."""
        return self._log.read_text()

    @property
    def workers(self) -> list[psutil.Process]:
        """Its child processes, those that still start included."""
        return psutil.Process(self.process.pid).children()

    async def samples(self, name: str) -> dict[str, float]:
        """The values of a metric by the label `worker`, added up over all other labels."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(await http.get(self._url, within_s=5) or ""):
            for each in family.samples:
                if each.name == name:
                    found[each.labels["worker"]] = found.get(each.labels["worker"], 0.0) + each.value
        return found

    async def subscribed(self, sessions: int) -> list[str]:
        """Waits until so many sessions are subscribed; returns their names."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            connected = await self.samples("telemetry_ingest_mqtt_connected")
            if list(connected.values()) == [1.0] * sessions:
                return sorted(connected)
            assert self.process.returncode is None, self.said
            assert time.monotonic() < deadline, (connected, self.said)
            await asyncio.sleep(0.1)

    async def shows(self, name: str, wanted: dict[str, float]) -> None:
        """Waits until a metric has these values; it follows what is committed by a moment."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := await self.samples(name)) != wanted:
            assert time.monotonic() < deadline, (name, found, self.said)
            await asyncio.sleep(0.1)

    async def says(self, words: str) -> None:
        """Waits until it has said so."""
        deadline = time.monotonic() + PATIENCE_S
        while words not in self.said:
            assert time.monotonic() < deadline, self.said
            await asyncio.sleep(0.05)

    async def end(self, within_s: float = PATIENCE_S) -> int:
        """Tells it to end; returns its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), within_s)


@asynccontextmanager
async def supervised(settings: Settings, *arguments: str, **more: Any) -> AsyncIterator[Supervised]:
    """`telemetry ingest` runs with these arguments while the block does; `more` are further settings."""
    port = free_port()
    chosen = {
        "database.url": settings.database.url.get_secret_value(),
        "database.engine": settings.database.engine,
        "mqtt.port": settings.mqtt.port,
        "mqtt.topic_root": settings.mqtt.topic_root,
        "mqtt.client_id": settings.mqtt.client_id,
        "ingest.metrics_port": port,
        "ingest.batch_age": "20ms",
        **{name.replace("__", "."): value for name, value in more.items()},
    }
    flags = [part for name, value in chosen.items() for part in ("--set", f"{name}={value}")]
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "telemetry", *flags, "ingest", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(os.environ),
        )
        running = Supervised(process, port, Path(log.name))
        try:
            yield running
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def until(database: asyncpg.Connection, query: str, is_right: Callable[[Any], bool]) -> Any:
    """Waits until a query's only value is right; returns it."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_right(value := await database.fetchval(query)):
        assert time.monotonic() < deadline, f"{query} stays at {value}"
        await asyncio.sleep(0.05)
    return value
