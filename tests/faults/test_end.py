"""SIGTERM while the database hangs: connections are open, and nothing that is sent over them is ever answered."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from telemetry.demo.postgres import LocalPostgres
from tests.faults.publisher import Publisher
from tests.faults.scene import END_WITHIN_S as PROMISED_S
from tests.faults.scene import Scene, loaded
from tests.faults.test_database import signal_server
from tests.support.supervised import supervised

RATE = 500.0
SESSIONS = 5
"""Of three workers: one for each domain, and one for strays."""
END_WITHIN_S = min(PROMISED_S, 8.0)
"""Less than it took when each connection waited for the server."""


@asynccontextmanager
async def hanging(server: LocalPostgres) -> AsyncIterator[None]:
    """The database hangs while the block runs, and has done so for a while at its beginning."""
    signal_server(server, signal.SIGSTOP)
    try:
        await asyncio.sleep(3)
        yield
    finally:
        signal_server(server, signal.SIGCONT)


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
@pytest.mark.parametrize("spooled", [False, True], ids=["none", "spool"])
async def test_ingest_ends_in_time_while_the_database_hangs(
    durable_scene: Scene, durable_server: LocalPostgres, spooled: bool
) -> None:
    more: dict[str, Any] = {"spool__directory": durable_scene.folder, "spool__after": "1s"} if spooled else {}
    process = durable_scene.process(**more)
    await process.start()
    try:
        await process.subscribed()
        async with Publisher(durable_scene.settings) as publisher:
            async with loaded(publisher, RATE):
                await durable_scene.grown(300)
                async with hanging(durable_server):
                    began = time.monotonic()
                    assert await process.stop() == 0
                    took = time.monotonic() - began
            async with durable_scene.ingesting(**more):
                await durable_scene.settled(publisher)
    finally:
        await process.kill()
    said = durable_scene.log.read_text()
    assert "Traceback" not in said
    assert ("are acknowledged and nowhere else" in said) is spooled
    case = f"SIGTERM while PostgreSQL is stopped{', with a spool' if spooled else ''}"
    account = await durable_scene.account(case, publisher, f"{took:.1f} s")
    account.assert_kept()
    assert took < END_WITHIN_S


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_workers_end_in_time_while_the_database_hangs(
    durable_scene: Scene, durable_server: LocalPostgres
) -> None:
    async with supervised(durable_scene.settings, "--workers", "3") as running:
        await running.subscribed(SESSIONS)
        async with Publisher(durable_scene.settings) as publisher, loaded(publisher, RATE):
            await durable_scene.grown(300)
            workers = running.workers
            async with hanging(durable_server):
                began = time.monotonic()
                assert await running.end() == 0
                took = time.monotonic() - began
        assert not any(worker.is_running() for worker in workers)
        assert "Traceback" not in running.said
    assert took < END_WITHIN_S
