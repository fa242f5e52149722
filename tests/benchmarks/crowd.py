"""Many clients that each ask about one meter while readings are being ingested; and what that does to ingest."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Final

from tests.benchmarks.city import City
from tests.benchmarks.drive import UNBOUNDED, Run, drive, settled
from tests.benchmarks.figures import Figure, figure, quantile
from tests.benchmarks.load import Load
from tests.benchmarks.questions import METRIC, ZONE
from tests.benchmarks.stand import Ingest, running
from tests.benchmarks.wire import Wire, address, wire

CLIENTS: Final = 20
RATE: Final = 5_000
DEVICES: Final = 1_000
PAUSES: Final = {"each asks once a second": 1.0, "without a pause": 0.0}


def crowd(city: City, folder: Path, seconds: float) -> list[Figure]:
    """Latency of 20 clients under ingest, and ingest alone and under them."""
    with running(Ingest(city.site, folder)) as ingest:
        settled_before = asyncio.run(settled(city.site))
        runs = [asyncio.run(drive(ingest, _load(city, seconds), before=settled_before, window=UNBOUNDED))]
        found: list[Figure] = []
        for name, pause in PAUSES.items():
            before = settled_before + sum(each.messages for each in runs)
            run, took = asyncio.run(_under(city, ingest, seconds, pause, before))
            found += _told(city, name, runs[0], run, took, seconds)
            runs.append(run)
    lost = sum(run.missing for run in runs)
    return [*found, figure(f"one meter under ingest, {city.engine}", "messages missing", [lost], form=",.0f", most=0)]


def _load(city: City, seconds: float) -> Load:
    return Load(city.site.port, city.site.name, int(RATE * seconds), DEVICES, ("energy",), RATE, live=True)


async def _under(city: City, ingest: Ingest, seconds: float, pause: float, before: int) -> tuple[Run, list[float]]:
    took: list[float] = []
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(wire(city.port)) for _ in range(CLIENTS)]
        clients = [asyncio.create_task(_ask_on(each, city, pause, took)) for each in wires]
        try:
            run = await drive(ingest, _load(city, seconds), before=before, window=UNBOUNDED)
        finally:
            for client in clients:
                client.cancel()
            ended = await asyncio.gather(*clients, return_exceptions=True)
    for each in ended:
        if isinstance(each, Exception):
            raise each
    return run, took


async def _ask_on(asked: Wire, city: City, pause: float, took: list[float]) -> None:
    """Asks until it is cancelled; clients do not march in step."""
    await asyncio.sleep(random.random() * pause)
    while True:
        at = time.perf_counter()
        await asked.get(_path(city))
        took.append((time.perf_counter() - at) * 1000)
        await asyncio.sleep(max(0.0, pause - (time.perf_counter() - at)))


def _path(city: City) -> str:
    times = {"start": city.past.start.isoformat(), "end": city.past.end.isoformat()}
    device = f"meter-{random.randint(1, city.past.meters)}"
    asked: dict[str, object] = {"metric": METRIC, "window": "15m", "by": "device", "device": device, "tz": ZONE}
    return address("series", asked | times)


def _told(city: City, name: str, alone: Run, under: Run, took: list[float], seconds: float) -> list[Figure]:
    scenario = f"one meter under ingest, {city.engine}"
    note = f"{CLIENTS} clients, {name}: {len(took) / seconds:.0f} questions/s; median {median(took):.1f} ms"
    slower = f"{alone.rate:,.0f} → {under.rate:,.0f} messages/s; CPU {alone.cpu_us:.1f} → {under.cpu_us:.1f} µs"
    return [
        figure(scenario, f"p99, {name}", [quantile(took, 0.99)], "ms", most=30, note=note),
        figure(
            scenario, f"ingest over ingest alone, {name}", [under.rate / alone.rate], form=".2f", least=0.9, note=slower
        ),
    ]  # fmt: skip
