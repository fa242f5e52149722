"""The PostgreSQL of the tests: a given one, else an installed one with TimescaleDB, else the embedded one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from telemetry.demo.postgres import LocalPostgres, embedded_bindir
from tests.support.sql import fetch_row

URL_VARIABLE = "TELEMETRY_TEST_DATABASE_URL"
BINDIR_VARIABLE = "TELEMETRY_TEST_PG_BINDIR"

_QUIET_WITHIN_S = 30.0

NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""A test server that crashes is thrown away; tests of durability ask `postgres_factory` for a server of their own."""

QUIET_TIMESCALEDB = {
    "timescaledb.telemetry_level": "off",
    # Policies never run by surprise in the middle of a test; a test that wants one says CALL run_job(…). It also keeps
    # the scheduler from holding connections to the templates.
    "timescaledb.max_background_workers": "0",
}


@dataclass(frozen=True)
class ServerUnderTest:
    """A server that the tests may make databases on.

    Attributes:
        url: connection URL as a superuser.
        origin: where it comes from: given, installed or embedded.
        postgres: its version, e.g. "15.18".
        timescaledb: the version of the extension that it offers; None where it does not.
    """

    url: str
    origin: str
    postgres: str
    timescaledb: str | None

    @property
    def description(self) -> str:
        """In a few words, for the summary and for reasons of skipping."""
        name = f"PostgreSQL {self.postgres}, {self.origin}"
        return f"TimescaleDB {self.timescaledb} on {name}" if self.timescaledb else name

    def database(self, name: str) -> str:
        """Connection URL of a database of this server."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))


@contextmanager
def server_under_test() -> Iterator[ServerUnderTest]:
    """The server, started where it is ours; stopped and removed with the block."""
    if url := os.environ.get(URL_VARIABLE):
        yield describe(url, "given")
        return
    bindir, origin = find_bindir()
    with temporary_directory() as directory:
        postgres = LocalPostgres(directory, bindir, options=server_options(bindir) | NOT_DURABLE)
        try:
            postgres.start()
            yield describe(postgres.url(), origin)
        finally:
            postgres.stop("immediate")


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """A folder with a short path that another system user can be let into, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp(prefix="telemetry-test-"))
    try:
        yield directory
    finally:
        _remove(directory)


def _remove(directory: Path) -> None:
    """Removes it; what a server that was killed has left behind may take a moment to end, and write until then."""
    deadline = time.monotonic() + _QUIET_WITHIN_S
    while directory.exists():
        try:
            shutil.rmtree(directory)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def find_bindir() -> tuple[Path, str]:
    """The programs to test with, and where they come from."""
    if given := os.environ.get(BINDIR_VARIABLE):
        return Path(given), "embedded" if Path(given) == embedded_bindir() else "given"
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if config := shutil.which("pg_config"):
        installed.append(Path(_output(config, "--bindir")))
    for bindir in reversed(installed):
        if (bindir / "postgres").exists() and offers_timescaledb(bindir):
            return bindir, "installed"
    return embedded_bindir(), "embedded"


def server_options(bindir: Path) -> dict[str, str]:
    """What every server of the tests is started with."""
    timescaledb = {"shared_preload_libraries": "timescaledb"} | QUIET_TIMESCALEDB if offers_timescaledb(bindir) else {}
    return {"max_connections": "200"} | timescaledb


def offers_timescaledb(bindir: Path) -> bool:
    """Whether the extension is installed for these programs."""
    config = bindir / "pg_config"
    return config.exists() and (Path(_output(config, "--sharedir")) / "extension" / "timescaledb.control").exists()


def describe(url: str, origin: str) -> ServerUnderTest:
    """Asks a running server for its versions."""
    row = fetch_row(
        url,
        """
        SELECT split_part(current_setting('server_version'), ' ', 1) AS postgres,
               (SELECT default_version FROM pg_available_extensions
                WHERE name = 'timescaledb'
                  AND EXISTS (SELECT FROM pg_settings WHERE name = 'timescaledb.max_background_workers')) AS timescaledb
        """,
    )
    return ServerUnderTest(url, origin, row["postgres"], row["timescaledb"])


def _output(program: str | Path, *arguments: str) -> str:
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout.strip()
