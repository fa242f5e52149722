"""A database for dashboards: migrated as in production, filled once per engine and only read by the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio

from telemetry.settings import Settings, load_settings
from telemetry.store.engine import Engine
from telemetry.store.migrate import migrate
from tests.integration.deploy.filled_city import Span, fill
from tests.support.databases import Databases
from tests.support.sql import wait_for

READER_PASSWORD = "read-only"


@dataclass(frozen=True)
class FilledDatabase:
    """A database with three days of the city.

    Attributes:
        reader_url: connection URL of the role that Grafana reads with.
    """

    settings: Settings
    span: Span
    reader_url: str


@pytest.fixture(scope="session")
def filled(databases: Databases, engine: Engine) -> Iterator[FilledDatabase]:
    """Not a clone: a role's settings belong to the very database that was migrated."""
    with databases.empty() as url:
        settings = load_settings(
            overrides={"database.url": url, "database.engine": engine, "database.reader_password": READER_PASSWORD}
        )
        wait_for(lambda: migrate(settings))
        span = wait_for(lambda: fill(settings))
        yield FilledDatabase(settings, span, _as_reader(url))


@pytest_asyncio.fixture
async def reader(filled: FilledDatabase) -> AsyncIterator[asyncpg.Connection]:
    """A connection as Grafana opens it."""
    connection = await asyncpg.connect(filled.reader_url)
    yield connection
    await connection.close()


def _as_reader(url: str) -> str:
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"telemetry_reader:{READER_PASSWORD}@{address}"))
