"""A service that an error ends says why in the last line of its log, in the form of all the lines before it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from telemetry.settings import Settings
from tests.integration.mqtt.test_configuration import configured  # noqa: F401 - a fixture
from tests.support.gateway import gateway
from tests.support.ingesting import received
from tests.support.supervised import PATIENCE_S, supervised

pytestmark = pytest.mark.parametrize("engine", ["postgres"], indirect=True)


def last_line(said: str) -> dict[str, Any]:
    """The last line; all lines are JSON and nothing else."""
    lines = [json.loads(line) for line in said.splitlines()]
    assert {"event", "level", "timestamp"} <= set(lines[-1])
    assert lines[-1]["level"] == "error"
    return dict(lines[-1])


def ends(settings: Settings, *command: str, **more: object) -> dict[str, Any]:
    """The last line of a service that ends by itself with exit code 1; `more` are further settings."""
    chosen = {
        "database.url": settings.database.url.get_secret_value(),
        "mqtt.port": settings.mqtt.port,
        "mqtt.topic_root": settings.mqtt.topic_root,
        "mqtt.client_id": settings.mqtt.client_id,
        "ingest.metrics_port": 0,
        **{name.replace("__", "."): value for name, value in more.items()},
    }
    flags = [part for name, value in chosen.items() for part in ("--set", f"{name}={value}")]
    done = subprocess.run(
        [sys.executable, "-m", "telemetry", *flags, *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    return last_line(done.stderr)


@pytest.mark.asyncio
async def test_table_that_is_gone_ends_ingest_with_a_line_of_its_log(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    async with supervised(settings) as running, gateway(settings) as sender:
        await running.subscribed(1)
        await sender.send("waste/bin", {"fill_level_pct": 5})
        await received(connection, 1)
        await connection.execute("ALTER TABLE ledger RENAME TO elsewhere")
        try:
            await sender.send("waste/bin", {"fill_level_pct": 6})
            assert await asyncio.wait_for(running.process.wait(), PATIENCE_S) == 1
        finally:
            await connection.execute("ALTER TABLE elsewhere RENAME TO ledger")
        line = last_line(running.said)
    assert (line["event"], line["sqlstate"]) == ("ingest_failed", "42P01")
    assert line["detail"] == 'the database refuses what ingest asks of it: relation "ledger" does not exist'
    assert "Nothing more is acknowledged" in line["consequence"]


@pytest.mark.parametrize(("command", "event"), [("ingest", "ingest_failed"), ("maintain", "maintain_failed")])
def test_database_that_refuses_is_told_with_its_sqlstate(settings: Settings, command: str, event: str) -> None:
    url = settings.database.url.get_secret_value() + "-that-is-not-there"
    line = ends(settings, command, database__url=url)
    assert (line["event"], line["sqlstate"]) == (event, "3D000")
    assert "refuses us" in line["detail"]


def test_broker_that_refuses_the_password_is_told(settings: Settings, configured: Any) -> None:  # noqa: F811
    line = ends(settings, "ingest", mqtt__port=configured.port, mqtt__username="telemetry", mqtt__password="wrong")
    assert line["event"] == "ingest_failed"
    assert "see mqtt.username and mqtt.password" in line["detail"]
    assert "sqlstate" not in line


def test_damaged_spool_is_told(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / f"{settings.mqtt.client_id}.sqlite").write_bytes(b"no database at all" * 1000)
    line = ends(settings, "ingest", spool__directory=tmp_path)
    assert line["event"] == "ingest_failed"
    assert "is damaged" in line["detail"]


def test_api_that_cannot_listen_is_told(settings: Settings) -> None:
    line = ends(settings, "api", api__host="203.0.113.1")
    assert line["event"] == "api_failed"
    assert "cannot listen on 203.0.113.1" in line["detail"]


def test_settings_that_are_wrong_are_told_by_a_service_like_any_other_end(settings: Settings) -> None:
    line = ends(settings, "ingest", mqtt__prot=1)
    assert line["event"] == "ingest_failed"
    assert line["detail"].startswith("mqtt.prot: there is no such setting")


def test_end_on_a_terminal_is_one_sentence(settings: Settings) -> None:
    terminal, its = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "telemetry", "--set", "mqtt.prot=1", "ingest"],
        stdin=subprocess.DEVNULL,
        stderr=its,
        env={**os.environ, "NO_COLOR": "1", "TERM": "dumb"},
    ) as process:
        os.close(its)
        assert process.wait(PATIENCE_S) == 1
    said = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert said.strip() == "mqtt.prot: there is no such setting; `telemetry config show` lists them all"


@pytest.mark.asyncio
async def test_database_that_does_not_answer_is_told_once_with_the_limit(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/telemetry"
        async with supervised(settings, database__url=url, database__connect_timeout="1s") as running:
            await running.says("no answer within database.connect_timeout = 1s")
            assert await running.end() == 0
            lines = [json.loads(line) for line in running.said.splitlines()]
    assert [line["error"].partition("/telemetry ")[2] for line in lines if line["event"] == "database_away"] == [
        "cannot be reached: no answer within database.connect_timeout = 1s"
    ]
