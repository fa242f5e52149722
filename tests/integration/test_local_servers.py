"""The servers that the demo and the tests start themselves: what a user meets when something is in their way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from telemetry.demo.mosquitto import LocalMosquitto
from telemetry.demo.postgres import LocalPostgres
from telemetry.demo.server import LocalServer
from telemetry.errors import ConfigurationError
from tests.support.broker_fixtures import MosquittoFactory
from tests.support.database_fixtures import PostgresFactory
from tests.support.server import temporary_directory
from tests.support.sql import execute, fetch_row

SERVERS = [LocalPostgres, LocalMosquitto]


@pytest.fixture
def directory() -> Iterator[Path]:
    """A folder that the system user of PostgreSQL can be let into."""
    with temporary_directory() as made:
        yield made


def count_rows(server: LocalPostgres) -> int:
    """Rows of the table that these tests write."""
    return int(fetch_row(server.url(), "SELECT count(*) FROM kept")["count"])


def test_postgres_keeps_its_data_over_a_restart(postgres_factory: PostgresFactory) -> None:
    server = postgres_factory()
    execute(server.url(), "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (1)")
    port = server.port
    server.stop()
    assert not server.running
    with pytest.raises(OSError, match="Connect call failed"):
        fetch_row(server.url(), "SELECT 1")
    server.start()
    assert server.port == port
    assert count_rows(server) == 1


def test_postgres_recovers_what_was_committed_before_a_kill(postgres_factory: PostgresFactory) -> None:
    server = postgres_factory()
    execute(server.url(), "CREATE TABLE kept (n int)", "INSERT INTO kept SELECT generate_series(1, 1000)")
    lock = server.data / "postmaster.pid"
    server.kill()
    assert lock.exists()
    server.start()
    assert count_rows(server) == 1000


def test_postgres_whose_lock_names_a_foreign_process_starts(postgres_factory: PostgresFactory) -> None:
    server = postgres_factory()
    server.kill()
    lock = server.data / "postmaster.pid"
    lines = lock.read_text().splitlines(keepends=True)
    lock.write_text("".join([f"{os.getpid()}\n", *lines[1:]]))
    server.start()
    assert server.running


def test_postgres_in_a_folder_at_work_is_refused(postgres_factory: PostgresFactory) -> None:
    server = postgres_factory()
    rival = LocalPostgres(server.directory, server.bindir)
    with pytest.raises(ConfigurationError, match=rf"process {server.pid}\) is at work in .*another folder"):
        rival.start()
    assert fetch_row(server.url(), "SELECT 1 AS one")["one"] == 1


def test_postgres_in_a_folder_of_another_version_is_refused(postgres_factory: PostgresFactory) -> None:
    server = postgres_factory()
    server.stop()
    (server.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(ConfigurationError, match=r"was made by PostgreSQL 9, .*name another folder"):
        server.start()


def test_postgres_makes_a_database_once(postgres_factory: PostgresFactory) -> None:
    server = postgres_factory()
    server.create_database("telemetry")
    execute(server.url("telemetry"), "CREATE TABLE kept (n int)")
    server.create_database("telemetry")
    row = fetch_row(
        server.url("telemetry"),
        "SELECT current_setting('server_encoding'), (SELECT count(*) FROM kept), lower('É')",
    )
    assert tuple(row) == ("UTF8", 0, "é")


def test_postgres_takes_settings(postgres_factory: PostgresFactory) -> None:
    server = postgres_factory(options={"work_mem": "7MB"})
    assert fetch_row(server.url(), "SELECT current_setting('work_mem') AS it")["it"] == "7MB"


def test_postgres_with_a_wrong_setting_names_it(directory: Path) -> None:
    server = LocalPostgres(directory, options={"shared_preload_libraries": "no_such_library", "fsync": "off"})
    with pytest.raises(ConfigurationError, match=r"did not start: .*no_such_library.*postgresql\.log"):
        server.start()
    assert not server.running


def test_postgres_without_its_programs_names_the_folder(directory: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"no PostgreSQL in {directory}"):
        LocalPostgres(directory / "new", directory).start()


def test_postgres_in_a_folder_with_a_long_path_starts(directory: Path) -> None:
    server = LocalPostgres(directory / ("long" * 30), options={"fsync": "off"})
    try:
        server.start()
        sockets = fetch_row(server.url(), "SELECT current_setting('unix_socket_directories') AS it")["it"]
        assert (Path(sockets) / f".s.PGSQL.{server.port}").exists()
    finally:
        server.stop()
    assert not Path(sockets).exists()


@pytest.mark.parametrize("kind", SERVERS)
def test_server_on_a_busy_port_says_so(kind: type[LocalServer], directory: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"port {port}, which {kind.NAME} wants, is taken .*another port"):
            kind(directory, port=port).start()


@pytest.mark.parametrize("kind", SERVERS)
def test_server_in_an_unwritable_folder_says_so(kind: type[LocalServer], directory: Path) -> None:
    (directory / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match=rf"{directory}/file/below of {kind.NAME} cannot be written"):
        kind(directory / "file" / "below").start()


@pytest.mark.parametrize("kind", SERVERS)
def test_server_started_by_a_thread_outlives_the_thread(kind: type[LocalServer], directory: Path) -> None:
    server = kind(directory)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        time.sleep(0.3)
        assert server.running
    finally:
        server.stop()


@pytest.mark.parametrize("kind", SERVERS)
def test_server_dies_with_its_parent(kind: type[LocalServer], directory: Path) -> None:
    program = f"""
        import sys, time
        from pathlib import Path
        from {kind.__module__} import {kind.__name__}

        server = {kind.__name__}(Path({str(directory)!r}))
        server.start()
        print(server.pid, flush=True)
        time.sleep(600)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        orphan = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    gone, _ = psutil.wait_procs([orphan], timeout=60)
    assert gone == [orphan]


def test_mosquitto_keeps_the_queue_of_an_absent_subscriber_over_a_restart(mosquitto_factory: MosquittoFactory) -> None:
    broker = mosquitto_factory()
    address = ["-h", broker.host, "-p", str(broker.port), "-q", "1", "-t", "queue"]
    subscribe = ["mosquitto_sub", *address, "-V", "5", "-i", "absent", "-c", "-x", "600"]
    subprocess.run([*subscribe, "-E"], check=True)
    lines = "".join(f"{number}\n" for number in range(1500))
    subprocess.run(["mosquitto_pub", *address, "-l"], input=lines, text=True, check=True)
    broker.stop()
    broker.start()
    received = subprocess.run([*subscribe, "-C", "1500", "-W", "60"], check=True, capture_output=True, text=True)
    assert received.stdout == lines


def test_mosquitto_killed_starts_again_on_its_port(mosquitto_factory: MosquittoFactory) -> None:
    broker = mosquitto_factory()
    port = broker.port
    broker.kill()
    assert not broker.running
    broker.start()
    assert (broker.running, broker.port) == (True, port)


def test_mosquitto_missing_says_how_to_get_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr("telemetry.demo.mosquitto.BESIDE_PATH", str(directory))
    with pytest.raises(ConfigurationError, match="apt-get install mosquitto"):
        LocalMosquitto(directory).start()
