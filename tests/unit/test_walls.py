"""The walls of the house: imports run downwards only.

What a reading means (`domains`) must outlive the way it arrives (MQTT), is kept (SQL) and is asked for (HTTP). Once a
domain imports the database, no format can be tested without one and no storage can be replaced; and an import that goes
up or sideways becomes a cycle with the next one. Such an import works on the day it is written, so nobody notices: this
test does. Who needs something from a higher level takes it as an argument; what two neighbours share moves below them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import telemetry
from tests.support.imports import broken_walls

LEVELS = (
    frozenset({"__main__"}),
    frozenset({"cli"}),
    frozenset({"demo"}),
    frozenset({"api", "ingest", "simulate", "upkeep"}),
    frozenset({"query", "store", "formats", "mqtt"}),
    frozenset({"domains", "logs"}),
    frozenset({"settings"}),
    frozenset({"resources", "client"}),
    frozenset({"errors", "spans"}),
)

BROKER = frozenset({"mqtt5", "aiomqtt", "paho"})
DATABASE = frozenset({"asyncpg"})
HTTP = frozenset({"fastapi", "starlette", "uvicorn"})

FORBIDDEN = {
    "domains": BROKER | DATABASE | HTTP,
    "formats": BROKER | DATABASE | HTTP,
    "query": BROKER | HTTP,
    "mqtt": DATABASE | HTTP,
    "store": BROKER | HTTP,
    "ingest": HTTP,
    "upkeep": BROKER | HTTP,
    "client": BROKER | DATABASE | HTTP,
}


def test_imports_run_downwards_only() -> None:
    assert telemetry.__file__ is not None
    assert broken_walls(Path(telemetry.__file__).parent, LEVELS, FORBIDDEN) == []


@pytest.mark.parametrize(
    ("file", "statement", "fault"),
    [
        ("domains/waste.py", "import asyncpg", "domains must not know asyncpg"),
        ("domains/waste.py", "from mqtt5 import PublishPacket", "domains must not know mqtt5"),
        ("domains/waste.py", "from fastapi.routing import APIRouter", "domains must not know fastapi"),
        (
            "domains/waste.py",
            "from telemetry.store.pool import connect",
            "domains must not import store, which is above",
        ),
        ("formats/chirp.py", "from telemetry.store import pool", "formats must not import store, which is beside"),
        ("query/plan.py", "import fastapi", "query must not know fastapi"),
        ("mqtt/client.py", "from starlette import status", "mqtt must not know starlette"),
        ("store/pool.py", "from ..ingest.batch import Batch", "store must not import ingest, which is above"),
        ("api/app.py", "from telemetry import ingest", "api must not import ingest, which is beside"),
        ("store/writer.py", "from telemetry.upkeep import rounds", "store must not import upkeep, which is above"),
        ("ingest/service.py", "from telemetry.upkeep import rounds", "ingest must not import upkeep, which is beside"),
        ("upkeep/rounds.py", "import mqtt5", "upkeep must not know mqtt5"),
        ("ingest/service.py", "def f():\n    import telemetry.cli", "ingest must not import cli, which is above"),
        ("client/series.py", "from telemetry.domains import Kind", "client must not import domains, which is above"),
        ("client/blocking.py", "import asyncpg", "client must not know asyncpg"),
        ("errors.py", "from . import settings", "errors must not import settings, which is above"),
        ("console2/page.py", "", "console2: has no level"),
    ],
)
def test_import_through_a_wall_is_found(tmp_path: Path, file: str, statement: str, fault: str) -> None:
    path = tmp_path / "telemetry" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(statement)
    (found,) = broken_walls(tmp_path / "telemetry", LEVELS, FORBIDDEN)
    assert fault in found


@pytest.mark.parametrize(
    ("file", "statement"),
    [
        ("cli.py", "from telemetry.demo.run import run"),
        ("demo/run.py", "from telemetry.simulate import city"),
        ("ingest/service.py", "from telemetry.store import pool\nfrom telemetry.mqtt.client import Client"),
        ("api/app.py", "import fastapi\nfrom telemetry.query import plan"),
        ("store/pool.py", "import asyncpg\nfrom . import engine\nfrom .engine import Engine"),
        (
            "domains/waste.py",
            "import pydantic\nfrom telemetry.errors import Rejected\nfrom telemetry import __version__",
        ),
        ("__init__.py", "from importlib.metadata import version"),
    ],
)
def test_import_downwards_is_allowed(tmp_path: Path, file: str, statement: str) -> None:
    path = tmp_path / "telemetry" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(statement)
    assert broken_walls(tmp_path / "telemetry", LEVELS, FORBIDDEN) == []
