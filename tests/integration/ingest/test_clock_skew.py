"""From a device whose clock is wrong to what `/v1/devices`, the metrics and Grafana's view say of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from telemetry.api.app import create_app
from telemetry.ingest import accounts, clocks
from telemetry.settings import Settings
from telemetry.store import clocks as table
from telemetry.store import devices
from telemetry.store.clocks import Clock
from telemetry.upkeep import rounds
from tests.support.gateway import Gateway, gateway
from tests.support.ingesting import PATIENCE_S, ingesting, received, shows

SKEW = 'telemetry_ingest_skewed_clocks{beyond_s="%d",direction="%s",worker="%s"} %.1f\n'
WRITTEN = "SELECT skew_s FROM device_clocks WHERE device_id = $1"


async def send(sender: Gateway, device: str, ahead_s: float | None) -> None:
    """A reading of a device whose clock is so far ahead; None for one that sends no time."""
    body: dict[str, Any] = {"power_w": 1.0}
    if ahead_s is not None:
        body["time"] = (datetime.now(UTC) + timedelta(seconds=ahead_s)).isoformat()
    await sender.send(f"lighting/{device}", body)


def since(began: datetime) -> float:
    """Seconds; no message was on its way for longer that was sent after that."""
    return (datetime.now(UTC) - began).total_seconds()


async def written(database: asyncpg.Connection, device: str) -> float:
    """The skew that the table has of a device; waits for it."""
    async with asyncio.timeout(PATIENCE_S):
        while (skew := await database.fetchval(WRITTEN, device)) is None:
            await asyncio.sleep(0.05)
    return float(skew)


@pytest.mark.asyncio
async def test_wrong_clocks_are_shown_by_devices_metrics_and_view(
    settings: Settings, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "EVERY_S", 0.2)
    monkeypatch.setattr(clocks, "WINDOW_US", 1)
    began = datetime.now(UTC)
    async with ingesting(settings) as metrics, gateway(settings) as sender:
        for _ in range(2):
            for device, ahead_s in {"right": 0.0, "fast": 120.0, "slow": -1000.0, "timeless": None}.items():
                await send(sender, device, ahead_s)
            await send(sender, "future", 4e8)
            await send(sender, "right", -1e6)
            await asyncio.sleep(0.3)
        await received(connection, 12)
        assert 120 - since(began) < await written(connection, "fast") <= 120
        assert -1000 - since(began) < await written(connection, "slow") <= -1000
        assert 4e8 - since(began) < await written(connection, "future") <= 4e8
        off_by = ((60, "ahead", 2), (300, "ahead", 1), (300, "behind", 1))
        lines = [SKEW % (beyond_s, way, settings.mqtt.client_id, clocks_off) for beyond_s, way, clocks_off in off_by]
        await shows(metrics, lambda page: all(line in page for line in lines))
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        data = (await client.get("/v1/devices")).json()["data"]
        found = {row["device_id"]: row["clock_skew_s"] for row in data}
        assert set(found) == {"right", "fast", "slow", "timeless"}
        assert found["timeless"] is None
        off = (await client.get("/v1/devices", params={"min_clock_skew": 60})).json()["data"]
        assert {row["device_id"] for row in off} >= {"fast", "slow"}
        one = (await client.get("/v1/devices/fast")).json()["data"]
        assert one["clock_skew_s"] == found["fast"]
        assert began < datetime.fromisoformat(one["clock_seen_at"]) < datetime.now(UTC)
    rows = await connection.fetch("SELECT device_id, registered FROM grafana.clocks WHERE skew_s > 60")
    assert {tuple(row) for row in rows} == {("fast", True), ("future", False)}


@pytest.mark.asyncio
async def test_clock_of_a_short_run_is_written_at_its_end(
    settings: Settings, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "_LAST_WITHIN_S", PATIENCE_S)  # the database may take its time
    began = datetime.now(UTC)
    async with ingesting(settings), gateway(settings) as sender:
        await send(sender, "fast", 100.0)
        await received(connection, 1)
    assert 100 - since(began) < await written(connection, "fast") <= 100


@pytest.mark.asyncio
async def test_missing_table_of_clocks_stops_no_reading(
    settings: Settings, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "EVERY_S", 0.1)
    await connection.execute("DROP TABLE device_clocks CASCADE")
    async with ingesting(settings), gateway(settings) as sender:
        for number in range(1, 4):
            await send(sender, "fast", 50.0)
            assert (await received(connection, number))["stored"] == number
            await asyncio.sleep(0.2)


@pytest.mark.asyncio
async def test_newest_clock_of_a_device_wins_whoever_writes_it(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    key = (await devices.register(connection, {"lamp": "lighting"}))["lamp"]
    second, hour = 1_000_000, 3_600_000_000
    now = 480_000 * hour
    await table.save(connection, [Clock(key, -2 * second, now), Clock("lamp", 9 * second, now + 1), Clock(77, 1, now)])
    assert await written(connection, "lamp") == 9.0
    await table.save(connection, [Clock(key, 5 * second, now - 1)])
    assert await written(connection, "lamp") == 9.0
    await table.save(connection, [Clock(key, 5 * second, now + 2)])
    assert await written(connection, "lamp") == 5.0
    assert await connection.fetchval("SELECT count(*) FROM device_clocks") == 1
    assert await devices.remove(connection, "lamp")
    assert await connection.fetchval("SELECT count(*) FROM device_clocks") == 0
    await table.save(connection, [Clock("gone", second, now)])
    await rounds.run_once(settings)
    assert await connection.fetchval("SELECT count(*) FROM device_clocks") == 0
