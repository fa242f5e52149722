"""Databases for tests: one migrated template per engine and session, cloned for each test, dropped after it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from telemetry.settings import load_settings
from telemetry.store.engine import Engine
from telemetry.store.migrate import migrate
from tests.support.server import ServerUnderTest
from tests.support.sql import execute, wait_for

_FREE_WITHIN_S = 60.0


class Databases:
    """Makes and drops databases on the server under test.

    The names carry a random part, so that several sessions may share a server that was given.
    """

    def __init__(self, server: ServerUnderTest) -> None:
        self._server = server
        self._prefix = f"telemetry_test_{uuid.uuid4().hex[:8]}"
        self._count = 0
        self._templates: dict[Engine, str] = {}

    @contextmanager
    def empty(self) -> Iterator[str]:
        """URL of a database without any table of ours."""
        with self._temporary("template0") as url:
            yield url

    @contextmanager
    def migrated(self, engine: Engine) -> Iterator[str]:
        """URL of a database as the migrations leave it."""
        if engine not in self._templates:
            self._templates[engine] = self._make_template(engine)
        with self._temporary(self._templates[engine]) as url:
            yield url

    def close(self) -> None:
        """Drops the templates."""
        for name in self._templates.values():
            execute(self._server.url, f"ALTER DATABASE {name} IS_TEMPLATE false", _drop(name))

    def _make_template(self, engine: Engine) -> str:
        name = f"{self._prefix}_{engine}"
        execute(self._server.url, f"CREATE DATABASE {name} TEMPLATE template0")
        settings = load_settings(overrides={"database.url": self._server.database(name), "database.engine": engine})
        wait_for(lambda: migrate(settings))
        # TimescaleDB's launcher leaves templates alone: on a server with background workers, too, nobody connects to
        # it any more once those that are there have been sent away.
        execute(
            self._server.url,
            f"ALTER DATABASE {name} IS_TEMPLATE true",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        )
        return name

    @contextmanager
    def _temporary(self, template: str) -> Iterator[str]:
        self._count += 1
        name = f"{self._prefix}_{self._count}"
        self._when_left(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self._server.database(name)
        finally:
            self._when_left(_drop(name))

    def _when_left(self, statement: str) -> None:
        deadline = time.monotonic() + _FREE_WITHIN_S
        while True:
            try:
                return execute(self._server.url, statement)
            except asyncpg.ObjectInUseError:
                # Someone who was sent away is still leaving.
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)


def _drop(name: str) -> str:
    return f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"
