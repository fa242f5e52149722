"""Whether the service tells the truth about itself, also when its database does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import httpx
import pytest

from telemetry.api.app import create_app
from telemetry.demo.mosquitto import free_port
from telemetry.settings import Settings, load_settings
from tests.integration.api.test_clients import all_idle
from tests.integration.query.rows import City
from tests.support.database_fixtures import PostgresFactory

HALF_A_SECOND = timedelta(seconds=0.5)


@asynccontextmanager
async def asked(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """An application of these settings."""
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        yield client


@pytest.mark.asyncio
async def test_service_is_live_ready_and_has_a_version(client: httpx.AsyncClient, engine: str) -> None:
    assert (await client.get("/livez")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json() == {"status": "ready", "engine": engine}
    assert (await client.get("/version")).json()["data"]["name"] == "urban-telemetry"


@pytest.mark.asyncio
async def test_service_is_not_ready_before_the_tables_are_made(empty_database_url: str, engine: str) -> None:
    async with asked(load_settings(overrides={"database.url": empty_database_url})) as client:
        for path in ("/readyz", "/v1/ledger", "/v1/lighting/latest"):
            answer = await client.get(path)
            assert answer.status_code == 503
            assert "telemetry db migrate" in answer.json()["detail"]


@pytest.mark.asyncio
async def test_service_is_not_ready_while_a_migration_is_missing(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await connection.execute("DELETE FROM telemetry_migrations WHERE version LIKE '%waste'")
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert "0007_waste is pending" in answer.json()["detail"]


@pytest.mark.asyncio
async def test_service_starts_while_the_database_is_away() -> None:
    settings = load_settings(overrides={"database.url": f"postgresql://127.0.0.1:{free_port()}/nowhere"})
    async with asked(settings) as client:
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/v1/domains")).status_code == 200
        for path in ("/readyz", "/v1/ledger", "/v1/lighting/series?metric=power_w", "/v1/devices/x"):
            answer = await client.get(path)
            assert answer.status_code == 503, answer.text
            assert answer.json()["type"] == "urn:telemetry:problem:database-away"
            assert int(answer.headers["retry-after"]) > 0
        metrics = await client.get("/metrics")
        assert metrics.status_code == 200
        assert 'telemetry_http_requests_total{method="GET",route="/readyz",status="503"} 1.0' in metrics.text
        assert "telemetry_ledger_imbalance{" not in metrics.text


@pytest.mark.asyncio
async def test_service_answers_again_when_the_database_is_back(postgres_factory: PostgresFactory) -> None:
    server = postgres_factory()
    async with asked(load_settings(overrides={"database.url": server.url("postgres")})) as client:
        assert "telemetry db migrate" in (await client.get("/readyz")).text
        await asyncio.to_thread(server.stop)
        assert "database-away" in (await client.get("/readyz")).text
        await asyncio.to_thread(server.start)
        assert "telemetry db migrate" in (await client.get("/readyz")).text


@pytest.mark.asyncio
async def test_question_that_takes_too_long_is_ended(
    settings: Settings, city: City, connection: asyncpg.Connection
) -> None:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        # There is a connection already: to open one may take longer than the question may.
        assert (await client.get("/v1/lighting/series", params={"metric": "power_w"})).status_code == 200
        await all_idle(app)
        api = settings.api.model_copy(update={"statement_timeout": HALF_A_SECOND})
        app.state.service.settings = settings.model_copy(update={"api": api})
        async with connection.transaction():
            # The question waits for the lock, as it would for a disk.
            await connection.execute("LOCK TABLE lighting_readings IN ACCESS EXCLUSIVE MODE")
            answer = await client.get("/v1/lighting/series", params={"metric": "power_w"})
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:telemetry:problem:too-slow"
    assert "0.5 s" in answer.json()["detail"]


@pytest.mark.asyncio
async def test_requests_are_counted_by_route_not_by_path(client: httpx.AsyncClient) -> None:
    for path in ("/v1/devices/a", "/v1/devices/b", "/nowhere/a", "/nowhere/b"):
        await client.get(path)
    text = (await client.get("/metrics")).text
    assert 'telemetry_http_requests_total{method="GET",route="/v1/devices/{device_id}",status="404"} 2.0' in text
    assert 'telemetry_http_requests_total{method="",route="",status="404"} 2.0' in text
    assert "nowhere" not in text


@pytest.mark.asyncio
async def test_metrics_of_the_ledger_are_there_while_questions_have_every_connection(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    await connection.execute("INSERT INTO ledger VALUES (now(), 'lighting', 'w', 'received', 3)")
    one = settings.model_copy(update={"database": settings.database.model_copy(update={"pool_size": 1})})
    app = create_app(one)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
        app.state.service.connection(),
    ):
        # Beside each other, for neither waits for the other one's connection.
        (metrics, ready) = await asyncio.gather(client.get("/metrics"), client.get("/readyz"))
    assert 'telemetry_ledger_imbalance{domain="lighting"} 3.0' in metrics.text
    assert ready.status_code == 200
