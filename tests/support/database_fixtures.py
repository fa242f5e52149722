"""Fixtures around the database: every test that asks for one runs once per storage engine.

A test that is about one engine only says so: `@pytest.mark.parametrize("engine", ["timescaledb"], indirect=True)`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack

import asyncpg
import pytest
import pytest_asyncio

from telemetry.demo.mosquitto import LocalMosquitto
from telemetry.demo.postgres import LocalPostgres
from telemetry.settings import Settings, load_settings
from telemetry.store.engine import Engine
from telemetry.store.pool import connection as connected
from tests.support.databases import Databases
from tests.support.engine_report import remember_server
from tests.support.server import ServerUnderTest, find_bindir, server_options, server_under_test, temporary_directory

PostgresFactory = Callable[..., LocalPostgres]
"""`postgres_factory(options={...})` -> a started server of the test's own, durable unless the options say otherwise."""


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[ServerUnderTest]:
    """The server under test, for the whole session."""
    with server_under_test() as server:
        remember_server(request.config, server)
        yield server


@pytest.fixture(scope="session")
def databases(postgres_server: ServerUnderTest) -> Iterator[Databases]:
    """Makes databases on the server under test, for fixtures that live longer than a test."""
    made = Databases(postgres_server)
    yield made
    made.close()


@pytest.fixture(scope="session", params=["postgres", "timescaledb"])
def engine(request: pytest.FixtureRequest, postgres_server: ServerUnderTest) -> Engine:
    """The storage engine; TimescaleDB is skipped where the server does not offer it."""
    chosen: Engine = request.param
    if chosen == "timescaledb" and postgres_server.timescaledb is None:
        pytest.skip(f"the server under test ({postgres_server.description}) does not offer the extension")
    return chosen


@pytest.fixture
def database_url(databases: Databases, engine: Engine) -> Iterator[str]:
    """A database of the test's own, as the migrations leave it."""
    with databases.migrated(engine) as url:
        yield url


@pytest.fixture
def empty_database_url(databases: Databases, engine: Engine) -> Iterator[str]:
    """A database of the test's own without any migration."""
    with databases.empty() as url:
        yield url


@pytest.fixture
def settings(database_url: str, engine: Engine, mosquitto: LocalMosquitto, topic_root: str) -> Settings:
    """Settings for the test's database and its corner of the broker; ingest shows no metrics."""
    return load_settings(
        overrides={
            "database.url": database_url,
            "database.engine": engine,
            "mqtt.host": mosquitto.host,
            "mqtt.port": mosquitto.port,
            "mqtt.topic_root": topic_root,
            "mqtt.client_id": topic_root.replace("/", "-"),
            "ingest.metrics_port": 0,
        }
    )


@pytest_asyncio.fixture
async def connection(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the test's database."""
    async with connected(settings, "test") as opened:
        yield opened


@pytest.fixture
def postgres_factory() -> Iterator[PostgresFactory]:
    """Servers of the test's own, for tests that stop, kill or tune them."""
    bindir, _ = find_bindir()
    with ExitStack() as stack:

        def make(options: Mapping[str, str] | None = None) -> LocalPostgres:
            directory = stack.enter_context(temporary_directory())
            server = LocalPostgres(directory, bindir, options=server_options(bindir) | dict(options or {}))
            stack.callback(server.stop, "immediate")
            server.start()
            return server

        yield make
