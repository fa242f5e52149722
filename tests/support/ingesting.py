"""Ingest inside the test's own event loop, and what the database says about it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg

from telemetry.demo import http
from telemetry.demo.server import free_port
from telemetry.ingest import service
from telemetry.settings import Settings

PATIENCE_S = 120.0


@asynccontextmanager
async def ingesting(settings: Settings) -> AsyncIterator[str]:
    """Ingest runs, subscribed, while the block does; it has stopped afterwards. Gives its metrics' URL."""
    port = free_port()
    settings = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"metrics_port": port})})
    url = f"http://{settings.ingest.metrics_host}:{port}/metrics"
    stop = asyncio.Event()
    task = asyncio.create_task(service.run(settings, stop))
    try:
        await _subscribed(url, task)
        yield url
    finally:
        stop.set()
        await asyncio.wait_for(task, PATIENCE_S)


async def _subscribed(url: str, task: asyncio.Task[None]) -> None:
    """A broker keeps nothing for a subscriber that it has never seen."""
    deadline = time.monotonic() + PATIENCE_S
    while not await is_subscribed(url):
        if task.done():
            task.result()
        assert time.monotonic() < deadline, "ingest did not subscribe in time"
        await asyncio.sleep(0.05)


async def is_subscribed(url: str) -> bool:
    """Whether the ingest that shows its metrics there takes messages in."""
    return http.metric(await http.get(url, within_s=2) or "", "telemetry_ingest_mqtt_connected") == 1


async def shows(url: str, is_right: Callable[[str], bool]) -> str:
    """Waits until the page of the metrics is right, which follows what is committed by a moment; returns it."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_right(page := await http.get(url) or ""):
        assert time.monotonic() < deadline, page
        await asyncio.sleep(0.05)
    return page


async def outcomes(database: asyncpg.Connection) -> Counter[str]:
    """The ledger's readings by outcome, over all domains and hours."""
    rows = await database.fetch("SELECT outcome, sum(readings)::bigint AS readings FROM ledger GROUP BY outcome")
    return Counter({row["outcome"]: row["readings"] for row in rows if row["readings"]})


async def received(database: asyncpg.Connection, readings: int) -> Counter[str]:
    """Waits until so many readings are settled, and returns their outcomes; the ledger must balance."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := await outcomes(database))["received"] < readings:
        assert time.monotonic() < deadline, f"{readings} readings were expected: {found}"
        await asyncio.sleep(0.02)
    assert found["received"] == readings, found
    assert await database.fetchval("SELECT count(*) FROM ledger_hourly WHERE imbalance <> 0") == 0
    return found
