"""What the cases ask for, and which of them run: all with `make faults`, the short ones with `make test`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from telemetry.demo.postgres import LocalPostgres
from telemetry.settings import Settings
from telemetry.store.engine import Engine
from tests.faults.nursery import Nursery
from tests.faults.report import FaultReport
from tests.faults.scene import Scene
from tests.support.databases import Databases
from tests.support.server import ServerUnderTest, describe, find_bindir, server_options, temporary_directory
from tests.support.sql import execute

CHOICE_VARIABLE = "TELEMETRY_TEST_FAULTS"
"""`all` runs the long cases as well."""

LONG_COMMITS = {"commit_delay": "10000", "commit_siblings": "0"}
"""10 ms for each, as a slow disk has it: a fault can fall into a commit only where it lasts."""

_REPORT = pytest.StashKey[FaultReport]()


def pytest_configure(config: pytest.Config) -> None:
    """Adds the table to the end of the session."""
    report = config.stash[_REPORT] = FaultReport()
    config.pluginmanager.register(report)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the long cases unless they are asked for; then, the short forms of them."""
    unwanted = "short" if os.environ.get(CHOICE_VARIABLE) == "all" else "long"
    left_out = [item for item in items if item.get_closest_marker(unwanted)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not item.get_closest_marker(unwanted)]


@pytest.fixture(scope="session")
def fault_report(request: pytest.FixtureRequest, postgres_server: ServerUnderTest) -> FaultReport:
    """The table at the end."""
    report = request.config.stash[_REPORT]
    report.server = postgres_server
    return report


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where processes of ingest come from."""
    opened = Nursery()
    yield opened
    opened.close()


@pytest.fixture
def scene(settings: Settings, tmp_path: Path, nursery: Nursery, fault_report: FaultReport) -> Scene:
    """A case on the servers of the session."""
    return Scene(settings, tmp_path, nursery, fault_report)


@pytest.fixture(scope="session")
def durable_server() -> Iterator[LocalPostgres]:
    """A server that keeps what it has committed, whatever is done to it; of the session, for these cases only."""
    bindir, _ = find_bindir()
    with temporary_directory() as directory:
        server = LocalPostgres(directory, bindir, options=server_options(bindir) | LONG_COMMITS)
        try:
            server.start()
            yield server
        finally:
            server.stop("immediate")


@pytest.fixture(scope="session")
def durable_databases(durable_server: LocalPostgres) -> Iterator[Databases]:
    """Databases on it."""
    made = Databases(describe(durable_server.url(), "durable"))
    yield made
    made.close()


@pytest.fixture
def durable_scene(scene: Scene, durable_databases: Databases, engine: Engine) -> Iterator[Scene]:
    """A case on the server that may be killed."""
    with durable_databases.migrated(engine) as url:
        database = scene.settings.database.model_copy(update={"url": SecretStr(url)})
        scene.settings = scene.settings.model_copy(update={"database": database})
        execute(url, "CHECKPOINT")  # else each recovery copies the database anew
        yield scene
