"""The service has no time for a question now: it waits for its turn, or is asked again, unless that is turned off."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

import asyncpg
import httpx
import pytest

from telemetry.api.clients import WAIT_S
from telemetry.client import AsyncClient, Client, Retry, TooManyQuestions
from telemetry.client.transport import CONCURRENCY
from telemetry.settings import Settings
from telemetry.store.pool import connection as connected
from tests.integration.api.test_clients import RUNNING
from tests.support.supervised import until

ENDLESS = Retry(within_s=math.inf)

MANY = 20
"""More than the service runs at a time, and less than it refuses at once."""


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
@pytest.mark.parametrize("limits", [{"max_concurrent_per_client": 1}], indirect=True)
async def test_question_that_is_one_too_many_is_asked_again(
    address: str, settings: Settings, connection: asyncpg.Connection
) -> None:
    async with AsyncClient(address, retry=ENDLESS) as patient, AsyncClient(address, retry=None) as impatient:
        async with registry_locked(settings):
            running = asyncio.create_task(patient.device("lamp-1"))
            await until(connection, RUNNING, lambda found: found == 1)
            waiting = asyncio.create_task(patient.device("lamp-2"))
            with pytest.raises(TooManyQuestions, match="429 too-many-questions: 1 questions") as refused:
                await impatient.device("lamp-3")
            assert (refused.value.retry_after, refused.value.limit) == (2, 1)
            await asyncio.sleep(0.5)
            assert not waiting.done()
        assert [(await each).device_id for each in (running, waiting)] == ["lamp-1", "lamp-2"]


@asynccontextmanager
async def registry_locked(settings: Settings) -> AsyncIterator[None]:
    """Every question about a device waits in the database until the end of the block."""
    async with connected(settings, "lock") as locking, locking.transaction():
        await locking.execute("LOCK TABLE devices IN ACCESS EXCLUSIVE MODE")
        yield


class Watched:
    """Counts the requests that are under way, and keeps what they were answered."""

    def __init__(self) -> None:
        self.most = self.under_way = 0
        self.answered: list[int] = []

    @contextmanager
    def one(self) -> Iterator[Callable[[httpx.Response], httpx.Response]]:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            yield self._keep
        finally:
            self.under_way -= 1

    async def are(self, number: int) -> None:
        """Waits until so many are under way, and then for longer than the service lets questions wait."""
        async with asyncio.timeout(60):
            while self.under_way < number:
                await asyncio.sleep(0.02)
        await asyncio.sleep(WAIT_S + 0.5)

    def _keep(self, response: httpx.Response) -> httpx.Response:
        self.answered.append(response.status_code)
        return response


class Awaiting(Watched, httpx.AsyncHTTPTransport):
    """Of the client for asyncio."""

    def __init__(self) -> None:
        Watched.__init__(self)
        httpx.AsyncHTTPTransport.__init__(self)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with self.one() as keep:
            return keep(await super().handle_async_request(request))


class Blocking(Watched, httpx.HTTPTransport):
    """Of the client that waits."""

    def __init__(self) -> None:
        Watched.__init__(self)
        httpx.HTTPTransport.__init__(self)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self.one() as keep:
            return keep(super().handle_request(request))


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_more_questions_than_the_service_runs_wait_for_their_turn_in_the_client(
    address: str, settings: Settings
) -> None:
    async with AsyncClient(address, retry=None, transport=(seen := Awaiting())) as client:
        async with registry_locked(settings):
            asked = [asyncio.create_task(client.device("lamp-1")) for _ in range(MANY)]
            await seen.are(CONCURRENCY)
            assert (await client.version()).name == "urban-telemetry"
        assert [each.device_id for each in await asyncio.gather(*asked)] == ["lamp-1"] * MANY
    assert (seen.answered, seen.most) == ([200] * (MANY + 1), CONCURRENCY + 1)

    with (
        Client(address, retry=None, transport=(told := Blocking())) as client_of_threads,
        ThreadPoolExecutor(MANY) as threads,
    ):
        async with registry_locked(settings):
            waiting = [threads.submit(client_of_threads.device, "lamp-1") for _ in range(MANY)]
            await told.are(CONCURRENCY)
        found = await asyncio.gather(*map(asyncio.wrap_future, waiting))
    assert [each.device_id for each in found] == ["lamp-1"] * MANY
    assert (told.answered, told.most) == ([200] * MANY, CONCURRENCY)
