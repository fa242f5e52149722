"""The test stand: a durable PostgreSQL and a Mosquitto of our own, a fresh database and a process for each run."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

import asyncpg
import psutil

from telemetry.demo import http
from telemetry.demo.mosquitto import LocalMosquitto
from telemetry.demo.postgres import LocalPostgres
from telemetry.demo.server import free_port
from telemetry.settings import load_settings
from telemetry.store.devices import Device, upsert
from telemetry.store.migrate import migrate
from tests.benchmarks.machine import describe_versions
from tests.support.server import describe, find_bindir, server_options, temporary_directory

BROKER: Final = {
    "max_queued_messages": "0",
    "max_queued_bytes": "0",
    "max_inflight_messages": "20000",
    "max_inflight_bytes": "0",
}
POSTGRES: Final = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "track_commit_timestamp": "on",
    "track_wal_io_timing": "on",
}
PATIENCE_S: Final = 60.0

Kind = TypeVar("Kind", bound="Subject")


@dataclass(frozen=True)
class Site:
    """A database and a corner of the broker, for one run.

    Attributes:
        port: of the broker.
        broker: its process.
    """

    engine: str
    name: str
    url: str
    port: int
    broker: psutil.Process


class Stand:
    """Broker and database.

    Attributes:
        engines: the storage engines to measure.
        keeps: whether the cluster outlives the run, and with it the sites that have a name.
    """

    def __init__(
        self, postgres: LocalPostgres, mosquitto: LocalMosquitto, folder: Path, engines: list[str], keeps: bool = False
    ) -> None:
        self.postgres = postgres
        self.mosquitto = mosquitto
        self.folder = folder
        self.keeps = keeps
        server = describe(postgres.url(), "")
        self.engines = engines or (["timescaledb"] if server.timescaledb else []) + ["postgres"]
        timescaledb = f", TimescaleDB {server.timescaledb}" if server.timescaledb else ""
        self.versions = describe_versions(f"PostgreSQL {server.postgres}{timescaledb}")
        self._numbers = count(1)

    @contextmanager
    def site(
        self, engine: str, devices: int = 0, domains: Sequence[str] = ("lighting",), name: str | None = None
    ) -> Iterator[Site]:
        """A migrated database with registered devices; dropped with the block, unless it has a name and is kept."""
        kept = self.keeps and name is not None
        name = name or f"bench_{next(self._numbers)}"
        if not kept:
            self._drop(name)
        self.postgres.create_database(name)
        broker = psutil.Process(self.mosquitto.pid)
        site = Site(engine, name, self.postgres.url(name), self.mosquitto.port, broker)
        try:
            overrides: dict[str, object] = {"database.url": site.url, "database.engine": engine}
            asyncio.run(migrate(load_settings(overrides=overrides)))
            asyncio.run(self._register(site, devices, domains))
            yield site
        finally:
            if not kept and self.postgres.running:
                self._drop(name)

    def _drop(self, name: str) -> None:
        asyncio.run(self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))

    async def _register(self, site: Site, devices: int, domains: Sequence[str]) -> None:
        database = await asyncpg.connect(site.url)
        try:
            await upsert(database, [Device(f"load-{n}", domains[n % len(domains)]) for n in range(devices)])
            # What making and filling it left to write is not the business of the run.
            await database.execute("CHECKPOINT")
        finally:
            await database.close()

    async def _execute(self, statement: str) -> None:
        database = await asyncpg.connect(self.postgres.url())
        try:
            await database.execute(statement)
        finally:
            await database.close()


@contextmanager
def stand(engines: list[str], keep: Path | None = None) -> Iterator[Stand]:
    """The test stand, taken down with the block; the database cluster stays in the folder `keep`, if there is one."""
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_directory())
        bindir, _ = find_bindir()
        postgres = LocalPostgres((keep or folder) / "postgres", bindir, options=server_options(bindir) | POSTGRES)
        stack.callback(postgres.stop, "fast" if keep else "immediate")
        postgres.start()
        mosquitto = LocalMosquitto(folder / "mosquitto", options={**BROKER, "persistence": "false"})
        stack.callback(mosquitto.kill)
        mosquitto.start()
        yield Stand(postgres, mosquitto, folder, engines, keeps=keep is not None)


def cpu_s(process: psutil.Process) -> float:
    """User and system time of a process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


class Subject:
    """The process that is measured; it ends with us."""

    def __init__(self, site: Site, command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self.site = site
        self._log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                dying_with_us([sys.executable, "-m", *command]),
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.process = psutil.Process(self._popen.pid)

    def cpu_s(self) -> float:
        """User and system time of the whole process so far."""
        return cpu_s(self.process)

    def rss(self) -> int:
        """Bytes of resident memory now."""
        return int(self.process.memory_info().rss)

    def require_alive(self) -> None:
        """Raises RuntimeError, with the end of what it said, once the process has ended."""
        if self._popen.poll() is not None:
            said = self._log.read_text(errors="replace")[-3_000:]
            raise RuntimeError(f"the process under test has ended with {self._popen.returncode}:\n{said}")

    def has_said(self, word: str) -> bool:
        """Whether the word is in its output."""
        return word in self._log.read_text(errors="replace")

    def ready(self) -> bool:
        """Whether it does its work."""
        raise NotImplementedError

    def stop(self) -> None:
        """Asks it to end, and waits."""
        self._popen.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


class Ingest(Subject):
    """`telemetry ingest` at a site."""

    def __init__(self, site: Site, folder: Path) -> None:
        self._metrics_port = free_port()
        environment = {
            "TELEMETRY_DATABASE__URL": site.url,
            "TELEMETRY_MQTT__HOST": "127.0.0.1",
            "TELEMETRY_MQTT__PORT": str(site.port),
            "TELEMETRY_MQTT__CLIENT_ID": site.name,
            "TELEMETRY_MQTT__TOPIC_ROOT": site.name,
            "TELEMETRY_INGEST__METRICS_PORT": str(self._metrics_port),
        }
        super().__init__(site, ["telemetry", "ingest"], folder / f"{site.name}.log", environment)

    def ready(self) -> bool:
        """Whether it is subscribed."""
        text = asyncio.run(http.get(f"http://127.0.0.1:{self._metrics_port}/metrics")) or ""
        return http.metric(text, "telemetry_ingest_mqtt_connected") == 1


class Baseline(Subject):
    """`tests.benchmarks.baseline` at a site."""

    def __init__(self, site: Site, folder: Path) -> None:
        arguments = [site.url, str(site.port), site.name, "lighting"]
        super().__init__(site, ["tests.benchmarks.baseline", *arguments], folder / f"{site.name}.log")

    def ready(self) -> bool:
        """Whether it is subscribed."""
        return self.has_said("ready")


@contextmanager
def running(subject: Kind) -> Iterator[Kind]:
    """The process, ready; stopped with the block."""
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not subject.ready():
            subject.require_alive()
            if time.monotonic() > deadline:
                raise RuntimeError(f"the process under test is not ready within {PATIENCE_S:.0f} s")
            time.sleep(0.1)
        yield subject
    finally:
        subject.stop()


def dying_with_us(command: list[str]) -> list[str]:
    """The command, ended by the kernel when we are killed."""
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", "KILL", "--", *command] if program else command
