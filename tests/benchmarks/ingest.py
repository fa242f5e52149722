"""Ingest from broker to committed row, on both engines: `make bench-ingest`, `make bench-ingest ARGS="--rate 5000"`.

Broker, publisher, database and ingest share the machine, so read the CPU per message and the ratios, not the absolute
rates. The database is durable: fsync and synchronous_commit are on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from rich.console import Console
from rich.table import Table

from telemetry.demo import http
from telemetry.demo.mosquitto import LocalMosquitto
from telemetry.demo.postgres import LocalPostgres
from telemetry.demo.server import free_port
from telemetry.settings import Settings, load_settings
from telemetry.store.migrate import migrate
from tests.support.server import describe, find_bindir, server_options, temporary_directory

BROKER = {
    "max_queued_messages": "0",
    "max_queued_bytes": "0",
    "max_inflight_messages": "20000",
    "max_inflight_bytes": "0",
}
POSTGRES = {"shared_buffers": "1GB", "max_wal_size": "8GB"}
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Load:
    """What is published."""

    messages: int
    rate: float
    devices: int
    domains: str


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        rate: messages per second from the first published to the last committed.
        cpu_us: CPU microseconds of the ingest process for each message.
        p99_ms: 99th percentile, over batches, from receipt of the first message to its commit; an upper bound of a
        bucket. rss_mb: greatest resident memory of the ingest process.
    """

    engine: str
    published: int
    stored: int
    imbalance: int
    rate: float
    cpu_us: float
    p99_ms: float
    rss_mb: float


@contextmanager
def ingest_process(settings: Settings, folder: Path, metrics_port: int) -> Iterator[psutil.Process]:
    """`telemetry ingest` in a process of its own, subscribed."""
    environment = {
        **os.environ,
        "TELEMETRY_DATABASE__URL": settings.database.url.get_secret_value(),
        "TELEMETRY_MQTT__PORT": str(settings.mqtt.port),
        "TELEMETRY_MQTT__CLIENT_ID": settings.mqtt.client_id,
        "TELEMETRY_MQTT__TOPIC_ROOT": settings.mqtt.topic_root,
        "TELEMETRY_INGEST__METRICS_PORT": str(metrics_port),
    }
    with (folder / "ingest.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "telemetry", "ingest"], env=environment, stdout=log, stderr=log
        )
        try:
            url = f"http://127.0.0.1:{metrics_port}/metrics"
            deadline = time.monotonic() + PATIENCE_S
            while http.metric(asyncio.run(http.get(url)) or "", "telemetry_ingest_mqtt_connected") != 1:
                assert process.poll() is None, (folder / "ingest.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


async def account(url: str) -> tuple[int, int, int]:
    """Received, stored and the imbalance, by the ledger."""
    database = await asyncpg.connect(url)
    try:
        row = await database.fetchrow(
            "SELECT coalesce(sum(received), 0)::bigint, coalesce(sum(stored), 0)::bigint, "
            "coalesce(sum(abs(imbalance)), 0)::bigint FROM ledger_hourly"
        )
        assert row is not None
        return row[0], row[1], row[2]
    finally:
        await database.close()


def measure(postgres: LocalPostgres, mosquitto: LocalMosquitto, folder: Path, engine: str, load: Load) -> Result:
    """One load on one engine."""
    name = f"bench_{engine}"
    postgres.create_database(name)
    settings = load_settings(
        overrides={
            "database.url": postgres.url(name),
            "database.engine": engine,
            "mqtt.port": mosquitto.port,
            "mqtt.client_id": name,
            "mqtt.topic_root": name,
        }
    )
    asyncio.run(migrate(settings))
    metrics_port = free_port()
    with ingest_process(settings, folder, metrics_port) as process:
        cpu_before = sum(process.cpu_times()[:2])
        began = time.time()
        publisher = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.benchmarks.load", str(mosquitto.port), settings.mqtt.topic_root),
                *(str(load.messages), str(load.rate), str(load.devices), load.domains),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        rss = 0
        while publisher.poll() is None:
            rss = max(rss, process.memory_info().rss)
            time.sleep(0.05)
        assert publisher.stdout is not None
        said: dict[str, Any] = json.loads(publisher.stdout.read())
        publisher.stdout.close()
        began = said["ended_at"] - said["elapsed_s"]
        received = stored = imbalance = 0
        deadline = time.monotonic() + PATIENCE_S
        while received < load.messages and time.monotonic() < deadline:
            received, stored, imbalance = asyncio.run(account(postgres.url(name)))
            rss = max(rss, process.memory_info().rss)
            time.sleep(0.02)
        elapsed = time.time() - began
        cpu = sum(process.cpu_times()[:2]) - cpu_before
        text = asyncio.run(http.get(f"http://127.0.0.1:{metrics_port}/metrics")) or ""
    return Result(
        engine=engine,
        published=load.messages,
        stored=stored,
        imbalance=imbalance + abs(load.messages - received),
        rate=received / elapsed,
        cpu_us=cpu / max(received, 1) * 1e6,
        p99_ms=quantile(text, "telemetry_ingest_visible_seconds", 0.99) * 1000,
        rss_mb=rss / 2**20,
    )


def quantile(text: str, name: str, share: float) -> float:
    """Upper bound of the histogram bucket in which the quantile lies."""
    buckets: list[tuple[float, float]] = []
    for line in text.splitlines():
        if line.startswith(f"{name}_bucket"):
            labels, _, value = line.rpartition(" ")
            buckets.append((float(labels.split('le="')[1].split('"')[0]), float(value)))
    total = buckets[-1][1] if buckets else 0
    return next((bound for bound, count in buckets if count >= share * total), float("nan"))


def main() -> None:
    """Measures and prints a table; exit code 1 when a message is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument(
        "--rate", type=float, default=5_000, help="messages per second; 0 = as fast as the broker takes them"
    )
    parser.add_argument("--devices", type=int, default=2_000)
    parser.add_argument("--domains", default="lighting,energy,parking,waste")
    parser.add_argument("--engine", choices=["postgres", "timescaledb"], action="append")
    parser.add_argument("--json", type=Path, help="also write the results there")
    given = parser.parse_args()
    load = Load(given.messages, given.rate, given.devices, given.domains)
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_directory())
        bindir, origin = find_bindir()
        postgres = LocalPostgres(folder / "postgres", bindir, options=server_options(bindir) | POSTGRES)
        stack.callback(postgres.stop)
        postgres.start()
        mosquitto = LocalMosquitto(folder / "mosquitto", options=BROKER)
        stack.callback(mosquitto.stop)
        mosquitto.start()
        server = describe(postgres.url(), origin)
        engines = given.engine or (["timescaledb"] if server.timescaledb else []) + ["postgres"]
        results = [measure(postgres, mosquitto, folder, engine, load) for engine in engines]
    show(results, load, server.description)
    if given.json:
        given.json.write_text(json.dumps([vars(result) for result in results], indent=2) + "\n")
    if any(result.stored != load.messages or result.imbalance for result in results):
        sys.exit("messages are missing, or the ledger does not balance")


def show(results: list[Result], load: Load, server: str) -> None:
    """The table for people."""
    pace = f"{load.rate:,.0f}/s" if load.rate else "full speed"
    load_text = f"{load.messages:,} messages at {pace}, {load.devices:,} devices"
    table = Table(title=f"{load_text}\n{server}; {os.cpu_count()} x {platform.machine()}", box=None)
    for column in ("engine", "stored", "imbalance", "messages/s", "CPU µs/message", "p99 to commit ms", "RSS MB"):
        table.add_column(column, justify="right")
    for each in results:
        table.add_row(
            each.engine,
            f"{each.stored:,}",
            str(each.imbalance),
            f"{each.rate:,.0f}",
            f"{each.cpu_us:.1f}",
            f"≤ {each.p99_ms:,.0f}",
            f"{each.rss_mb:.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
