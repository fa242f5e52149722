"""The application in this process, on a real database, asked through its ASGI door."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest_asyncio
from fastapi import FastAPI

from telemetry.api.app import create_app
from telemetry.settings import Settings
from telemetry.store.devices import Device
from tests.integration.query.rows import City

DEVICES = (
    Device("lamp-1", "lighting", "Lamp 1", "North", 48.85, 2.35, 900),
    Device("lamp-2", "lighting", zone="North"),
    Device("lamp-3", "lighting", zone="South", interval_s=60),
    Device("lamp-4", "lighting"),
)


@pytest_asyncio.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """The running application."""
    made = create_app(settings)
    async with made.router.lifespan_context(made):
        yield made


@pytest_asyncio.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Asks the application; an error that it does not answer itself is a failure of the test."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as opened:
        yield opened


@pytest_asyncio.fixture
async def city(connection: asyncpg.Connection) -> City:
    """Four lamps, registered, without readings."""
    made = City(connection, "lighting", DEVICES)
    await made.register()
    return made
