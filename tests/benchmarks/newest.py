"""The last value of each of many devices."""

from __future__ import annotations

import asyncio
from statistics import median
from typing import Final

from telemetry.store.partitions import ensure_partitions
from tests.benchmarks.city import Api, City
from tests.benchmarks.figures import Figure, figure
from tests.benchmarks.latency import in_turns
from tests.benchmarks.past import DOMAIN, Past
from tests.benchmarks.questions import METRIC
from tests.benchmarks.stand import Stand, running
from tests.benchmarks.wire import address, wire

COUNTS: Final = (1_000, 10_000, 50_000, 100_000)
_FILL = """
    WITH made AS (
        INSERT INTO devices (device_id, domain, zone, interval_s)
        SELECT 'meter-' || n, 'energy', 'zone-' || n % 10, 600 FROM generate_series(1, $1::int) AS n
        RETURNING device_key
    )
    INSERT INTO energy_readings (time, received_at, device_key, active_power_w)
    SELECT at, at, device_key, floor(random() * 10000) / 10
    FROM generate_series(now() - interval '29 minutes', now(), '10 minutes') AS at, made
    ORDER BY device_key, at
"""


def newest(stand: Stand, engine: str, seconds: float) -> list[Figure]:
    """`latest` of more and more of 100,000 devices that each sent three times in the last half an hour."""
    with stand.site(engine) as site:
        place = City(site, Past(0, 0), 0)
        asyncio.run(_fill(place))
        with running(Api(site, stand.folder)) as api:
            took = asyncio.run(_measure(api.port, seconds))
    name = f"latest, {engine}"
    figures = [
        figure(name, f"{count:,} devices", [median(times)], "ms", most=400 if count == 50_000 else None)
        for count, times in zip(COUNTS, took, strict=True)
    ]
    each = [median(times) / count * 1000 for count, times in zip(COUNTS, took, strict=True)]
    note = ", ".join(f"{cost:.1f}" for cost in each) + " µs per device"
    figures.append(
        figure(name, "cost per device, 100,000 over 1,000", [each[-1] / each[0]], "×", form=".2f", most=1.2, note=note)
    )
    return figures


async def _fill(place: City) -> None:
    async with place.connection() as database:
        today = await database.fetch("SELECT generate_series(now() - interval '1 day', now(), '1 day')::date AS day")
        await ensure_partitions(database, DOMAIN, [row["day"] for row in today])
        await database.execute(_FILL, COUNTS[-1])
        await database.execute("VACUUM ANALYZE")


async def _measure(port: int, seconds: float) -> list[list[float]]:
    async with wire(port) as asked:
        paths = [address("latest", {"metric": METRIC, "limit": count}) for count in COUNTS]
        return await in_turns([lambda path=path: asked.get(path) for path in paths], seconds)  # type: ignore[misc]
