"""The commands as a shell sees them: exit codes, one sentence on standard error, no traceback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from telemetry.demo.server import free_port
from telemetry.settings import Settings
from telemetry.store.engine import Engine
from tests.support.sql import fetch_row

PATIENCE_S = 120.0


@pytest.fixture
def environment(settings: Settings, engine: Engine) -> dict[str, str]:
    """Variables that name the test's database and broker."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("TELEMETRY_")},
        "TELEMETRY_DATABASE__URL": settings.database.url.get_secret_value(),
        "TELEMETRY_DATABASE__ENGINE": engine,
        "TELEMETRY_MQTT__HOST": settings.mqtt.host,
        "TELEMETRY_MQTT__PORT": str(settings.mqtt.port),
        "TELEMETRY_MQTT__TOPIC_ROOT": settings.mqtt.topic_root,
        "TELEMETRY_MQTT__CLIENT_ID": settings.mqtt.client_id,
        "TELEMETRY_INGEST__METRICS_PORT": "0",
    }


def telemetry(
    environment: dict[str, str], *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "telemetry", *arguments],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def started(environment: dict[str, str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Commands that run until told to stop; those that are left are killed."""
    running: list[subprocess.Popen[bytes]] = []
    yield running
    for process in running:
        process.kill()
        process.wait()


def test_database_commands_tell_the_state(environment: dict[str, str], engine: Engine) -> None:
    assert telemetry(environment, "db", "migrate").stdout == "nothing to do\n"
    shown = telemetry(environment, "db", "status").stdout
    assert f"engine: {engine}" in shown
    assert "0008_ingest_sessions" in shown
    assert (checked := telemetry(environment, "db", "check")).returncode == 0
    assert checked.stderr == ""


def test_import_names_every_bad_row_and_keeps_the_good_ones(
    environment: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "devices.csv"
    file.write_text("id,domain,zone,interval\nlamp-1,lighting,centre,15m\n?,lighting,,\nbin-1,waste,nord,60\n")
    done = telemetry(environment, "import", str(file))
    assert done.returncode == 1
    assert f"{file}:3: id '?' must have" in done.stderr
    assert done.stdout == "2 devices added, 0 updated, 1 rows refused\n"
    file.write_text("id,domain,zone,interval\nlamp-1,lighting,gare,15m\n")
    done = telemetry(environment, "import", str(file))
    assert (done.returncode, done.stdout) == (0, "0 devices added, 1 updated, 0 rows refused\n")
    row = fetch_row(
        settings.database.url.get_secret_value(), "SELECT zone, interval_s FROM devices WHERE domain = 'lighting'"
    )
    assert tuple(row) == ("gare", 900)


def test_maintain_once_says_what_it_did(environment: dict[str, str], engine: Engine) -> None:
    done = telemetry(environment, "maintain", "--once")
    assert done.returncode == 0
    assert f"partitions_made: {16 if engine == 'postgres' else 0}" in done.stdout


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
def test_settings_are_shown_without_secrets_and_checked(environment: dict[str, str], tmp_path: Path) -> None:
    environment["TELEMETRY_MQTT__PASSWORD"] = "hush"
    shown = telemetry(environment, "config", "show", cwd=tmp_path)
    assert "hush" not in shown.stdout
    assert f"topic_root: {environment['TELEMETRY_MQTT__TOPIC_ROOT']}" in shown.stdout
    assert "domains: energy, lighting, parking, waste" in telemetry(environment, "config", "check", cwd=tmp_path).stdout
    wrong = telemetry(environment, "--set", "api.port=x", "--set", "mqtt.prot=1", "config", "check", cwd=tmp_path)
    assert wrong.returncode == 1
    assert "api.port" in wrong.stderr
    assert "mqtt.prot: there is no such setting" in wrong.stderr
    environment["TELEMETRY_SPOOL__DIRECTORY"] = str(tmp_path / "spool")
    missing = telemetry(environment, "config", "check", cwd=tmp_path)
    assert missing.returncode == 1
    assert f"spool.directory: there is no directory {tmp_path / 'spool'}" in missing.stderr.replace("\n", "")
    (tmp_path / "spool").mkdir()
    unquoted = telemetry(environment, "--set", "mqtt.topic_root=[", "config", "check", cwd=tmp_path)
    assert (unquoted.returncode, "the value of mqtt.topic_root is not YAML" in unquoted.stderr) == (2, True)
    crowd = telemetry(environment, "--set", "ingest.workers=9", "config", "check", cwd=tmp_path)
    assert (crowd.returncode, "ingest.workers is 9" in crowd.stderr) == (1, True)
    assert telemetry(environment, "config", "check", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
@pytest.mark.parametrize(("zone", "begins"), [("Asia/Kolkata", "30 minutes"), ("Asia/Kathmandu", "45 minutes")])
def test_days_that_are_not_those_of_the_zone_are_told(
    environment: dict[str, str], empty_database_url: str, zone: str, begins: str
) -> None:
    environment |= {"TELEMETRY_DATABASE__URL": empty_database_url, "TELEMETRY_TIMEZONE": zone}
    for command in ("migrate", "check"):
        done = telemetry(environment, "db", command)
        assert done.returncode == 0
        assert f"{zone} is no whole number of hours off UTC" in done.stderr
        assert f"begin {begins} after midnight" in done.stderr


FAULTY = """
from telemetry.cli import main
from telemetry.store.sessions import Sessions

async def announce(self, client_id, filters):
    return await self._link.call(find)

async def find(database):
    return {}["x"]

Sessions.announce = announce
main()
"""


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
@pytest.mark.parametrize("form", ["json", "console"])
def test_fault_of_the_program_ends_it_with_its_trace_in_the_log(environment: dict[str, str], form: str) -> None:
    environment["TELEMETRY_LOGGING__FORMAT"] = form
    environment["TELEMETRY_MQTT__PASSWORD"] = "hush"
    done = subprocess.run(
        [sys.executable, "-c", FAULTY, "ingest"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "refuses" not in done.stderr
    assert "hush" not in done.stderr
    trace = json.loads(done.stderr.splitlines()[-1])["exception"] if form == "json" else done.stderr
    assert trace.startswith("Traceback") == (form == "json")
    assert "in find" in trace
    assert trace.rstrip().endswith("KeyError: 'x'")
    assert "crashed" in done.stderr


@pytest.mark.parametrize("command", [("db", "migrate"), ("db", "status"), ("maintain", "--once")])
def test_command_without_database_ends_with_one_sentence(environment: dict[str, str], command: tuple[str, ...]) -> None:
    environment["TELEMETRY_DATABASE__URL"] = "postgresql://127.0.0.1:1/none"
    done = telemetry(environment, *command)
    assert done.returncode == 1
    assert "the database at 127.0.0.1:1/none cannot be reached" in done.stderr


def test_ingest_and_api_run_together_and_end_on_sigterm(
    environment: dict[str, str], settings: Settings, started: list[subprocess.Popen[bytes]]
) -> None:
    port = free_port()
    commands = (("ingest",), ("api", "--port", str(port)))
    started += [subprocess.Popen([sys.executable, "-m", "telemetry", *each], env=environment) for each in commands]
    topic = f"{settings.mqtt.topic_root}/waste/bin-1"
    deadline = time.monotonic() + PATIENCE_S
    answer = ""
    while "63.5" not in answer:
        assert time.monotonic() < deadline, answer
        publish = ["mosquitto_pub", "-p", str(settings.mqtt.port), "-q", "1", "-t", topic]
        body = json.dumps({"time": time.time(), "fill_level_pct": 63.5})
        subprocess.run([*publish, "-m", body], check=True)
        time.sleep(0.3)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/waste/latest", timeout=PATIENCE_S) as response:
                answer = response.read().decode()
        except OSError as error:
            answer = str(error)
    for process in started:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(PATIENCE_S) for process in started] == [0, 0]


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_ingest_without_tables_says_what_to_do(
    environment: dict[str, str], connection: asyncpg.Connection, empty_database_url: str
) -> None:
    environment["TELEMETRY_DATABASE__URL"] = empty_database_url
    done = telemetry(environment, "ingest")
    assert done.returncode == 1
    assert "run `telemetry db migrate`" in done.stderr


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_ingest_whose_metrics_have_no_port_ends_with_one_line(environment: dict[str, str], workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment["TELEMETRY_INGEST__METRICS_PORT"] = str(taken.getsockname()[1])
        done = telemetry(environment, "ingest", "--workers", workers)
    assert done.returncode == 1
    line = json.loads(done.stderr)
    assert line["event"] == "ingest_failed"
    assert line["detail"].startswith("the metrics of ingest cannot be shown on 127.0.0.1:")


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
def test_misspelt_number_of_workers_is_refused_with_a_suggestion(environment: dict[str, str]) -> None:
    done = telemetry({**environment, "COLUMNS": "200"}, "ingest", "--worker", "3")
    assert done.returncode == 2
    assert "No such option: --worker (Possible options: --workers)" in done.stderr


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
def test_command_whose_parent_has_ended_already_does_nothing(environment: dict[str, str]) -> None:
    ours = telemetry(environment, f"--parent={os.getpid()}", "config", "show")
    assert (ours.returncode, ours.stdout != "") == (0, True)
    orphan = telemetry(environment, f"--parent={os.getpid() + 1}", "config", "show")
    assert (orphan.returncode, orphan.stdout, orphan.stderr) == (1, "", "")
