"""What becomes of questions when the network swallows what the database says, and of `/readyz` when all are busy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from pydantic import SecretStr

from telemetry.api import service
from telemetry.api.app import create_app
from telemetry.settings import Settings
from tests.integration.api.test_clients import QUESTION, RUNNING, all_idle, stalled
from tests.support.proxy import Proxy


@pytest_asyncio.fixture
async def proxy(settings: Settings) -> AsyncIterator[Proxy]:
    """The network between the service and its database."""
    port = urlsplit(settings.database.url.get_secret_value()).port
    assert port is not None
    async with Proxy(port) as opened:
        yield opened


@pytest.fixture
def spoiled(settings: Settings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a service behind that network, without much patience."""
    monkeypatch.setattr(service, "LEEWAY_S", 1.0)
    url = urlsplit(settings.database.url.get_secret_value())
    netloc = f"{url.username}@127.0.0.1:{proxy.port}"
    database = {"url": SecretStr(urlunsplit(url._replace(netloc=netloc))), "connect_timeout": timedelta(seconds=2)}
    return settings.model_copy(
        update={
            "database": settings.database.model_copy(update=database),
            "api": settings.api.model_copy(update={"statement_timeout": timedelta(seconds=1)}),
        }
    )


@pytest.mark.asyncio
async def test_question_to_a_database_that_vanished_is_ended(
    settings: Settings, spoiled: Settings, proxy: Proxy, connection: asyncpg.Connection
) -> None:
    app = create_app(spoiled)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        asyncio.timeout(120),
    ):
        await answered(client, QUESTION)
        answer = await swallowed(client, settings, proxy, connection)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:telemetry:problem:database-away")
        assert (await client.get("/readyz")).status_code == 503
        proxy.heal()
        for path in ("/readyz", QUESTION):
            await answered(client, path)
        # The same amid an answer that is read in parts; what ends the snapshot must not wait either.
        running_service: service.Service = app.state.service
        with pytest.raises(TimeoutError):
            await read_on(running_service, proxy)
        await all_idle(app)


@pytest.mark.asyncio
async def test_readyz_answers_while_questions_have_all_connections(app: FastAPI, client: httpx.AsyncClient) -> None:
    running_service: service.Service = app.state.service
    async with AsyncExitStack() as taken:
        for _ in range(running_service.settings.database.pool_size):
            await taken.enter_async_context(running_service.connection())
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*(client.get("/readyz") for _ in range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4


@pytest.mark.asyncio
async def test_question_that_gets_no_connection_is_told_that_others_have_them(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    running_service: service.Service = app.state.service
    patient = running_service.settings
    impatient = patient.api.model_copy(update={"statement_timeout": timedelta(seconds=1)})
    async with AsyncExitStack() as taken:
        for _ in range(running_service.settings.database.pool_size):
            await taken.enter_async_context(running_service.connection())
        running_service.settings = patient.model_copy(update={"api": impatient})
        answer = await client.get(QUESTION)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:telemetry:problem:too-busy")
    assert "database.pool_size" in answer.json()["detail"]
    assert int(answer.headers["retry-after"]) > 0
    running_service.settings = patient
    assert (await client.get(QUESTION)).status_code == 200


async def answered(client: httpx.AsyncClient, path: str) -> None:
    """Asks until it is answered: on a busy machine, to open a connection takes longer than this service's patience."""
    while (await client.get(path)).status_code != 200:
        await asyncio.sleep(0.1)


async def swallowed(
    client: httpx.AsyncClient, settings: Settings, proxy: Proxy, connection: asyncpg.Connection
) -> httpx.Response:
    """The answer to a question that the database had, and was about to answer when the network fell silent.

    The database ends the question after the same patience; where that came first, another one is asked.
    """
    while True:
        async with stalled(settings):
            asked = asyncio.create_task(client.get(QUESTION))
            while not asked.done() and not await connection.fetchval(RUNNING):
                await asyncio.sleep(0.01)
            proxy.blackhole()
            answer = await asked
        if answer.json()["type"] != "urn:telemetry:problem:too-slow":
            return answer
        proxy.heal()
        await answered(client, QUESTION)


async def read_on(running_service: service.Service, proxy: Proxy) -> None:
    """Reads rows in two parts, with the silence in between."""
    async with running_service.reading() as reading:
        cursor = await reading.cursor("SELECT generate_series(1, 100000)")
        assert len(await cursor.fetch(10)) == 10
        proxy.blackhole()
        await cursor.fetch(10)
