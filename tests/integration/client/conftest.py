"""The service on a port, with four lamps, and both clients of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from telemetry.api.app import create_app
from telemetry.client import AsyncClient, AsyncPages, Client, Pages
from telemetry.settings import Settings
from tests.integration.api.conftest import city as city
from tests.integration.query.rows import City
from tests.support.serving import serving


@dataclass(frozen=True)
class Both:
    """The blocking client in a thread, and that for asyncio; both must answer alike."""

    blocking: Client
    awaiting: AsyncClient

    async def ask(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """The answer of the method of that name; of pages all rows."""
        first = await asyncio.to_thread(lambda: _whole(getattr(self.blocking, name)(*args, **kwargs)))
        second = getattr(self.awaiting, name)(*args, **kwargs)
        second = await (second.to_list() if isinstance(second, AsyncPages) else second)
        assert type(first) is type(second)
        return first, second

    async def same(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """The answer, which both have."""
        first, second = await self.ask(name, *args, **kwargs)
        assert first == second
        return first

    async def run(self, use: Callable[[Client], Any]) -> Any:
        """What somebody makes of the blocking client."""
        return await asyncio.to_thread(use, self.blocking)


def _whole(found: Any) -> Any:
    return found.to_list() if isinstance(found, Pages) else found


@pytest.fixture
def limits(request: pytest.FixtureRequest) -> dict[str, int]:
    """Settings of the service, of tests that name some."""
    return dict(getattr(request, "param", {}))


@pytest_asyncio.fixture
async def address(settings: Settings, city: City, limits: dict[str, int]) -> AsyncIterator[str]:
    """Where the service answers."""
    api = settings.api.model_copy(update=limits)
    app = create_app(settings.model_copy(update={"api": api}))
    async with serving(app, lifespan="on") as where:
        yield where


@pytest_asyncio.fixture
async def both(address: str) -> AsyncIterator[Both]:
    """Both clients."""
    with Client(address) as blocking:
        async with AsyncClient(address) as awaiting:
            yield Both(blocking, awaiting)
