"""What one client may ask at a time, and what becomes of its questions when it hangs up; on the server as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from telemetry.api import clients
from telemetry.api.app import create_app
from telemetry.demo.mosquitto import free_port
from telemetry.settings import Settings
from telemetry.store.pool import connection as connected
from tests.integration.query.rows import City
from tests.support.serving import served, serving
from tests.support.supervised import until

PATIENCE_S = 120.0
QUESTION = "/v1/lighting/series?metric=power_w"
LONG = "/v1/lighting/series?metric=power_w&window=1s&by=device&start=2026-01-01T00:00:00Z&end=2026-01-02T00:00:00Z"
RUNNING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'telemetry api' AND state <> 'idle'
"""
FILL = """
INSERT INTO lighting_readings (time, received_at, device_key, power_w)
SELECT at, at, device_key, 40
FROM devices, generate_series('2026-01-01 00:00Z'::timestamptz, '2026-01-01 23:59:59Z', interval '1 second') AS at
"""


@asynccontextmanager
async def stalled(settings: Settings) -> AsyncIterator[None]:
    """Every question of a series waits in the database until the end of the block."""
    async with connected(settings, "lock") as locking, locking.transaction():
        await locking.execute("LOCK TABLE late_ranges IN ACCESS EXCLUSIVE MODE")
        yield


@asynccontextmanager
async def asking(port: int, path: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client that sent a question and hangs up at the end of the block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def running(connection: asyncpg.Connection, number: int) -> None:
    """Waits until so many connections of the service are busy."""
    await until(connection, RUNNING, lambda found: found == number)


async def all_idle(app: FastAPI) -> None:
    """Waits until the pool has every connection back, of which there is one at least."""
    pool = app.state.service.pool
    async with asyncio.timeout(PATIENCE_S):
        while not pool.get_idle_size() == pool.get_size() > 0:
            await asyncio.sleep(0.02)


@pytest.mark.asyncio
async def test_question_of_a_client_that_hangs_up_is_cancelled(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    async with served(settings, port := free_port(), DATABASE__POOL_SIZE="1"), httpx.AsyncClient(timeout=60) as client:
        async with stalled(settings):
            async with asking(port, QUESTION):
                await running(connection, 1)
            await running(connection, 0)
        answer = await client.get(f"http://127.0.0.1:{port}{QUESTION}")
        metrics = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    assert answer.status_code == 200, answer.text
    assert 'telemetry_http_requests_total{method="GET",route="/v1/{domain}/series",status="499"} 1.0' in metrics


@pytest.mark.asyncio
async def test_stream_to_a_client_that_hangs_up_ends(
    settings: Settings, connection: asyncpg.Connection, city: City
) -> None:
    await connection.execute("SELECT telemetry_ensure_partitions('lighting', ARRAY['2026-01-01'::date])")
    await connection.execute(FILL)
    async with (
        served(settings, port := free_port(), DATABASE__POOL_SIZE="1", API__MAX_CONCURRENT_PER_CLIENT="1"),
        httpx.AsyncClient(timeout=60) as client,
    ):
        async with asking(port, LONG) as (reader, _):
            assert b"200 OK" in await reader.readline()
            assert (await client.get(f"http://127.0.0.1:{port}{QUESTION}")).status_code == 429
        await running(connection, 0)
        answer = await client.get(f"http://127.0.0.1:{port}{QUESTION}")
    assert answer.status_code == 200, answer.text


@pytest.mark.asyncio
async def test_question_beyond_the_limit_of_a_client_is_refused(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    async with (
        served(settings, port := free_port(), API__MAX_CONCURRENT_PER_CLIENT="2"),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        async with stalled(settings), asking(port, QUESTION), asking(port, QUESTION):
            await running(connection, 2)
            refused = await client.get("/v1/domains")
            other = await client.get("/v1/domains", headers={"x-forwarded-for": "192.0.2.7"})
            health = await client.get("/livez")
        # Those that hung up have left, as soon as their statements have.
        await running(connection, 0)
        again = await client.get("/v1/domains")
    assert (refused.status_code, other.status_code, health.status_code, again.status_code) == (429, 200, 200, 200)
    assert refused.headers["content-type"] == "application/problem+json"
    assert int(refused.headers["retry-after"]) > 0
    assert refused.json()["type"] == "urn:telemetry:problem:too-many-questions"
    assert refused.json()["limit"] == 2


@pytest.mark.asyncio
async def test_question_waits_for_its_turn(
    settings: Settings, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In this process, where its patience is not that of a busy machine.
    monkeypatch.setattr(clients, "WAIT_S", 60.0)
    one = settings.api.model_copy(update={"max_concurrent_per_client": 1})
    app = create_app(settings.model_copy(update={"api": one}))
    async with serving(app, lifespan="on") as address, httpx.AsyncClient(base_url=address, timeout=60) as client:
        async with stalled(settings):
            first = asyncio.create_task(client.get(QUESTION))
            await running(connection, 1)
            waiting = asyncio.create_task(client.get("/v1/domains"))
            await asyncio.sleep(0.2)
            assert not waiting.done()
        assert [(await each).status_code for each in (first, waiting)] == [200, 200]


@pytest.mark.asyncio
async def test_address_told_by_a_stranger_is_not_believed(settings: Settings, connection: asyncpg.Connection) -> None:
    async with (
        served(settings, port := free_port(), API__MAX_CONCURRENT_PER_CLIENT="1", API__TRUSTED_PROXIES="[]"),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
        stalled(settings),
        asking(port, QUESTION),
    ):
        await running(connection, 1)
        answer = await client.get("/v1/domains", headers={"x-forwarded-for": "192.0.2.7"})
    assert answer.status_code == 429
