"""Rows that keep upkeep from its work: it says so by name, and keeps the other domains in order."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from structlog.testing import capture_logs

from telemetry.domains import load_domains
from telemetry.settings import Settings
from telemetry.store import devices
from telemetry.store.batch import Batch, Part, Readings
from telemetry.store.devices import Device
from telemetry.store.layout import Layout
from telemetry.store.writer import Writer
from telemetry.upkeep import rounds
from telemetry.upkeep.rounds import run_once
from tests.integration.query.rows import City, Row

EARLIER = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
LAMP, METER = Device("lamp", "lighting"), Device("meter", "energy")


async def stored(connection: asyncpg.Connection, device: Device, *powers: float) -> None:
    """Closed readings of the device; the metric is one of every domain."""
    city = City(connection, device.domain, [device])
    await city.register()
    await city.add(
        Row(EARLIER + timedelta(minutes=n), device, {"battery_pct": value}) for n, value in enumerate(powers)
    )


@pytest.mark.asyncio
async def test_domain_whose_sums_overflow_holds_up_no_other(settings: Settings, connection: asyncpg.Connection) -> None:
    await stored(connection, METER, 1.7e308, 1.7e308)
    await stored(connection, LAMP, 1.0)
    with capture_logs() as logs:
        done = await run_once(settings)
    assert done.failed == ["energy"]
    (said,) = [each for each in logs if each["event"] == "maintain_fails"]
    assert (said["domain"], said["sqlstate"], said["log_level"]) == ("energy", "22003", "error")
    assert await connection.fetchval("SELECT samples FROM lighting_1d") == 1
    left = await connection.fetch("SELECT DISTINCT domain FROM late_ranges")
    assert [row["domain"] for row in left] == ["energy"]
    await connection.execute("UPDATE energy_readings SET battery_pct = 1")
    assert (await run_once(settings)).failed == []
    assert await connection.fetchval("SELECT samples FROM energy_1d") == 2


@pytest.mark.asyncio
async def test_upkeep_that_goes_on_says_a_failure_once(
    settings: Settings, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(connection, METER, 1.7e308, 1.7e308)
    made: list[rounds.Round] = []
    real = rounds.Upkeep.round

    async def counted(upkeep: rounds.Upkeep) -> rounds.Round:
        made.append(await real(upkeep))
        return made[-1]

    monkeypatch.setattr(rounds.Upkeep, "round", counted)
    quick = settings.maintain.model_copy(update={"interval": timedelta(milliseconds=10)})
    stop = asyncio.Event()
    with capture_logs() as logs:
        running = asyncio.create_task(rounds.run(settings.model_copy(update={"maintain": quick}), stop))
        async with asyncio.timeout(120):
            while len(made) < 3 and not running.done():
                await asyncio.sleep(0.01)
        stop.set()
        await running
    assert [each.failed for each in made[:3]] == [["energy"]] * 3
    assert [each["event"] for each in logs if each["log_level"] in ("warning", "error")] == ["maintain_fails"]


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_default_partition_with_rows_stops_neither_upkeep_nor_ingest(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    key = (await devices.register(connection, {"bin": "waste"}))["bin"]
    await connection.execute("CREATE TABLE waste_readings_rest PARTITION OF waste_readings DEFAULT")
    now = int(time.time()) + 600  # of a day for which a partition is wanted, also when midnight passes
    await connection.execute(
        "INSERT INTO waste_readings (time, received_at, device_key) VALUES (to_timestamp($1), now(), $2)", now, key
    )
    await stored(connection, LAMP, 1.0)
    with capture_logs() as logs:
        done = await run_once(settings)
    assert done.failed == ["waste"]
    assert [each["domain"] for each in logs if each["event"] == "maintain_fails"] == ["waste"]
    assert await connection.fetchval("SELECT samples FROM lighting_1d") == 1

    batch = Batch(0, 1, now * 1_000_000)
    batch.received["waste"] = 1
    layout = Layout.of(load_domains()["waste"])
    readings = batch.readings["waste"] = Readings(layout)
    source = Part("city/v1/waste/bin", b"{}", 0)
    readings.add((now * 1_000_000 + 1, now * 1_000_000, key, layout.shape(("fill_level_pct",)), source, 5.0))
    writer = Writer(settings, "worker", lambda: None)
    async with asyncio.timeout(60):
        counts = await writer.write(batch)
    await writer.close()
    assert counts["waste", "stored"] == 1
