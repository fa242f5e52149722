"""A large export over HTTP: how much the service's memory grows, in every form, on both engines.

    python -m tests.benchmarks.export [--devices 1000] [--minutes 1000] [--form arrow] [--aggregate time_avg]

The service runs in a process of its own and is asked a small question in that form first, so that what grows is what
the size of the answer costs. One row per device and minute is generated in the database and asked for as such.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import psutil
from rich.console import Console
from rich.table import Table

from telemetry.demo.postgres import LocalPostgres
from telemetry.demo.server import free_port
from telemetry.settings import Settings, load_settings
from telemetry.store.migrate import migrate
from telemetry.store.partitions import ensure_partitions
from tests.support.server import NOT_DURABLE, describe, find_bindir, server_options, temporary_directory

FORMS = ("json", "ndjson", "csv", "excel", "arrow", "parquet")
START = datetime(2026, 11, 1, tzinfo=UTC)
SLICE = 65_536
_FILL = """
    WITH made AS (
        INSERT INTO devices (device_id, domain, zone)
        SELECT 'meter-' || n, 'energy', 'zone-' || n % 10 FROM generate_series(1, $1::int) AS n
        RETURNING device_key
    )
    INSERT INTO energy_readings (time, received_at, device_key, active_power_w)
    SELECT at, at, device_key, random() * 1000
    FROM made, generate_series($2::timestamptz, $3::timestamptz - interval '1 minute', '1 minute') AS at
"""


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        before_mb, peak_mb: resident memory of the service when idle, and at most while it answered.
    """

    form: str
    seconds: float
    answer_mb: float
    before_mb: float
    peak_mb: float

    @property
    def growth_mb(self) -> float:
        """What the export took."""
        return self.peak_mb - self.before_mb


async def fill(settings: Settings, devices: int, minutes: int) -> None:
    """Makes one reading per device and minute."""
    end = START + timedelta(minutes=minutes)
    connection = await asyncpg.connect(settings.database.url.get_secret_value())
    try:
        days = {(START + timedelta(days=n)).date() for n in range((end - START).days + 1)}
        await ensure_partitions(connection, "energy", days)
        await connection.execute(_FILL, devices, START, end)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


@contextmanager
def service(settings: Settings) -> Iterator[tuple[psutil.Process, httpx.Client]]:
    """The HTTP service in a process of its own, and a client of it."""
    port = free_port()
    environment = {
        **os.environ,
        "TELEMETRY_DATABASE__URL": settings.database.url.get_secret_value(),
        "TELEMETRY_API__PORT": str(port),
        "TELEMETRY_API__STATEMENT_TIMEOUT": "300s",
    }
    process = subprocess.Popen([sys.executable, "-m", "telemetry", "api"], env=environment, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            _wait_until_ready(client)
            yield psutil.Process(process.pid), client
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            assert client.get("/readyz").status_code == 200
            return
        except httpx.ConnectError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def measure(settings: Settings, form: str, minutes: int, aggregate: str = "avg") -> Result:
    """One export by a service that has answered a small question before."""
    with service(settings) as (process, client):
        _export(client, form, 2, aggregate)
        time.sleep(0.5)
        before, finished, peaks = process.memory_info().rss, threading.Event(), [0]

        def watch() -> None:
            while not finished.wait(0.01):
                peaks[0] = max(peaks[0], process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        began = time.perf_counter()
        try:
            size = _export(client, form, minutes, aggregate)
        finally:
            finished.set()
            watcher.join()
        return Result(form, time.perf_counter() - began, size / 2**20, before / 2**20, peaks[0] / 2**20)


def _export(client: httpx.Client, form: str, minutes: int, aggregate: str) -> int:
    """Bytes of an answer that is read and thrown away."""
    end = START + timedelta(minutes=minutes)
    asked = {"metric": "active_power_w", "agg": aggregate, "window": "1m", "by": "device", "format": form, "tz": "UTC"}
    times = {"start": START.isoformat(), "end": end.isoformat()}
    size = 0
    with client.stream(
        "GET", "/v1/energy/series", params=asked | times, headers={"Accept-Encoding": "identity"}
    ) as answer:
        if answer.status_code != 200:
            raise SystemExit(answer.read().decode())
        for piece in answer.iter_bytes(SLICE):
            size += len(piece)
    return size


def main() -> None:
    """Measures and prints a table for each engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1_000)
    parser.add_argument("--minutes", type=int, default=1_000)
    parser.add_argument("--form", choices=FORMS, action="append")
    parser.add_argument("--aggregate", default="avg")
    parser.add_argument("--engine", choices=["postgres", "timescaledb"], action="append")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_directory())
        bindir, origin = find_bindir()
        postgres = LocalPostgres(folder / "postgres", bindir, options=server_options(bindir) | NOT_DURABLE)
        stack.callback(postgres.stop)
        postgres.start()
        server = describe(postgres.url(), origin)
        for engine in given.engine or (["timescaledb"] if server.timescaledb else []) + ["postgres"]:
            name = f"export_{engine}"
            postgres.create_database(name)
            settings = load_settings(overrides={"database.url": postgres.url(name), "database.engine": engine})
            asyncio.run(migrate(settings))
            asyncio.run(fill(settings, given.devices, given.minutes))
            results = [measure(settings, form, given.minutes, given.aggregate) for form in given.form or FORMS]
            show(results, f"{given.devices * given.minutes:,} rows, {engine}; {server.description}")


def show(results: list[Result], title: str) -> None:
    """The table for people."""
    table = Table(title=f"{title}; {os.cpu_count()} x {platform.machine()}", box=None)
    for column in ("form", "seconds", "answer MB", "RSS before MB", "RSS at most MB", "growth MB"):
        table.add_column(column, justify="right")
    for each in results:
        figures = (each.seconds, each.answer_mb, each.before_mb, each.peak_mb, each.growth_mb)
        table.add_row(each.form, *(f"{figure:.1f}" for figure in figures))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
