"""A device that is removed while ingest remembers its key: no reading is stored under a key of nothing."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Literal

import asyncpg
import pytest

from telemetry.domains import load_domains
from telemetry.ingest.devices import Devices
from telemetry.ingest.intake import Arrival, size_of
from telemetry.ingest.parcel import Kept
from telemetry.ingest.preparation import Preparation
from telemetry.ingest.routes import Routes
from telemetry.settings import Settings
from telemetry.store import devices
from tests.support.gateway import gateway
from tests.support.ingesting import ingesting, received

LOOKING_UP = """
SELECT max(pid) FILTER (WHERE backend_start = newest) FROM (
    SELECT pid, backend_start, max(backend_start) OVER () AS newest FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'telemetry ingest devices'
) AS connections
"""


@pytest.mark.asyncio
@pytest.mark.parametrize(("unknown", "outcome"), [("auto", "stored"), ("quarantine", "unknown_device")])
async def test_device_that_is_removed_is_new_with_its_next_reading(
    settings: Settings,
    connection: asyncpg.Connection,
    unknown: Literal["auto", "quarantine"],
    outcome: str,
) -> None:
    settings = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"unknown_devices": unknown})})
    before = (await devices.register(connection, {"bin-1": "waste", "bin-2": "waste"}))["bin-1"]
    await connection.execute("ALTER TABLE waste_readings ADD CHECK (fill_level_pct <> 13)")
    now = datetime.now(UTC).replace(microsecond=0)
    async with ingesting(settings), gateway(settings) as sender:
        # The database refuses it, so the device's key is remembered, and it has no reading.
        await sender.send("waste/bin-1", {"time": now.isoformat(), "fill_level_pct": 13})
        assert await received(connection, 1) == {"received": 1, "rejected_by_database": 1}
        assert await devices.remove(connection, "bin-1")
        for number in range(2):
            time = (now - timedelta(seconds=number)).isoformat()
            await sender.send("waste/bin-1", {"time": time, "fill_level_pct": 6})
            await sender.send("waste/bin-2", {"time": time, "fill_level_pct": 7})
        found = await received(connection, 5)
    assert found["rejected_by_database"] == 1
    assert found[outcome] == (4 if outcome == "stored" else 2)
    assert found.total() - found["received"] == 5
    stored = await connection.fetch(
        "SELECT device_id, device_key, fill_level_pct FROM waste_readings LEFT JOIN devices USING (device_key)"
    )
    assert {(row["device_id"], row["fill_level_pct"]) for row in stored} == (
        {("bin-1", 6), ("bin-2", 7)} if outcome == "stored" else {("bin-2", 7)}
    )
    assert before not in {row["device_key"] for row in stored}


@pytest.mark.asyncio
async def test_keys_that_are_forgotten_are_looked_up_over_a_new_connection(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    """Another server may have taken over, and the one before may still answer whoever is connected to it."""
    routes, looking_up = Routes("c", load_domains()), Devices(settings)
    preparation = Preparation(settings.ingest, routes, looking_up)
    pids = []
    for number, forget in enumerate((False, False, True)):
        if forget:
            routes.clear()
        message = Kept(f"c/waste/bin-{number}", b'{"fill_level_pct": 5}')
        made = await preparation.batch([Arrival(number, time.time_ns() // 1000, [message], size_of([message]))])
        assert len(made.readings["waste"].entries) == 1
        pids.append(await connection.fetchval(LOOKING_UP))
    await looking_up.close()
    assert pids[0] == pids[1] != pids[2]
