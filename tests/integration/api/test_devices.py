"""`/v1/devices`: the registry, and that no reading loses its device."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest

from telemetry.store import devices as registry
from telemetry.store.partitions import ensure_partitions
from tests.integration.query.rows import City, Row

WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
BODY = {"domain": "waste", "name": "Bin 7", "zone": "East", "latitude": 1.5, "longitude": 2.5, "interval_s": 3600}


@pytest.mark.asyncio
async def test_device_is_put_read_changed_and_deleted(client: httpx.AsyncClient, city: City) -> None:
    created = await client.put("/v1/devices/bin:7", json=BODY)
    assert created.status_code == 201
    device = created.json()["data"]
    assert {name: device[name] for name in BODY} == BODY
    assert (await client.get("/v1/devices/bin:7")).json()["data"] == device

    changed = await client.put("/v1/devices/bin:7", json={"domain": "waste"})
    assert changed.status_code == 200
    assert changed.json()["data"]["zone"] is None
    assert changed.json()["data"]["first_seen"] == device["first_seen"]

    assert (await client.delete("/v1/devices/bin:7")).status_code == 204
    assert (await client.get("/v1/devices/bin:7")).status_code == 404
    assert (await client.delete("/v1/devices/bin:7")).status_code == 404


@pytest.mark.asyncio
async def test_device_that_is_deleted_while_it_is_put_is_put_first(
    client: httpx.AsyncClient, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.put("/v1/devices/bin-7", json=BODY)
    monkeypatch.setattr(registry, "_PATIENCE_S", 60)
    deletions: list[asyncio.Task[httpx.Response]] = []
    upsert = registry.upsert

    async def raced(database: asyncpg.Connection, devices: Iterable[registry.Device]) -> tuple[int, int]:
        found = await upsert(database, devices)
        deletions.append(asyncio.create_task(client.delete("/v1/devices/bin-7")))
        while not deletions[0].done() and not await connection.fetchval(WAITING):
            await asyncio.sleep(0.01)
        return found

    monkeypatch.setattr(registry, "upsert", raced)
    put = await client.put("/v1/devices/bin-7", json={**BODY, "zone": "West"})
    assert (put.status_code, put.json()["data"]["zone"]) == (200, "West")
    assert (await deletions[0]).status_code == 204
    assert (await client.get("/v1/devices/bin-7")).status_code == 404


@pytest.mark.asyncio
async def test_device_with_readings_is_not_deleted(
    client: httpx.AsyncClient, city: City, connection: asyncpg.Connection
) -> None:
    await city.add([Row(datetime(2026, 11, 20, tzinfo=UTC), city.devices[0], {"power_w": 1.0})])
    answer = await client.delete("/v1/devices/lamp-1")
    assert answer.status_code == 409
    assert "lighting" in answer.json()["detail"]
    assert await connection.fetchval("SELECT count(*) FROM devices") == 4


@pytest.mark.asyncio
async def test_devices_are_filtered_and_paged(client: httpx.AsyncClient, city: City) -> None:
    await client.put("/v1/devices/bin-7", json=BODY)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = (await client.get("/v1/devices", params={"limit": 2, **cursor})).json()
        seen += [row["device_id"] for row in answer["data"]]
        if answer["meta"]["next"] is None:
            break
        cursor = {"cursor": answer["meta"]["next"]}
    assert seen == ["bin-7", "lamp-1", "lamp-2", "lamp-3", "lamp-4"]
    for filters, wanted in (
        ({"domain": "waste"}, {"bin-7"}),
        ({"zone": ["East", "South"]}, {"bin-7", "lamp-3"}),
        ({"zone": "North", "domain": "waste"}, set()),
    ):
        found = (await client.get("/v1/devices", params=filters)).json()["data"]
        assert {row["device_id"] for row in found} == wanted


@pytest.mark.asyncio
async def test_devices_show_their_clocks_and_are_filtered_by_them(
    client: httpx.AsyncClient, city: City, connection: asyncpg.Connection
) -> None:
    seen = datetime(2026, 11, 20, 10, tzinfo=UTC)
    clocks = [("lamp-1", 61.5, seen), ("lamp-2", -60.0, seen), ("lamp-3", 59.9, seen), ("stranger", 1e9, seen)]
    await connection.copy_records_to_table("device_clocks", records=clocks)
    answer = (await client.get("/v1/devices", params={"min_clock_skew": 60})).json()
    found = [(row["device_id"], row["clock_skew_s"], row["clock_seen_at"]) for row in answer["data"]]
    assert found == [("lamp-1", 61.5, "2026-11-20T10:00:00Z"), ("lamp-2", -60.0, "2026-11-20T10:00:00Z")]
    unmeasured = (await client.get("/v1/devices/lamp-4")).json()["data"]
    assert (unmeasured["clock_skew_s"], unmeasured["clock_seen_at"]) == (None, None)
    for wrong in ("-1", "nan", "inf", "much"):
        refused = await client.get("/v1/devices", params={"min_clock_skew": wrong})
        assert refused.status_code == 422
        assert refused.json()["parameter"] == "min_clock_skew"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("device_id", "body", "parameter"),
    [
        ("bin 7", BODY, "device_id"),
        ("x" * 129, BODY, "device_id"),
        ("bin-7", BODY | {"domain": "water"}, "domain"),
        ("bin-7", BODY | {"latitude": 91}, "latitude"),
        ("bin-7", BODY | {"interval_s": 0}, "interval_s"),
        ("bin-7", BODY | {"interval": 60}, "interval"),
        ("bin-7", {"name": "Bin 7"}, "domain"),
    ],
)
async def test_refusal_names_the_field(
    client: httpx.AsyncClient, device_id: str, body: dict[str, Any], parameter: str
) -> None:
    answer = await client.put(f"/v1/devices/{device_id}", json=body)
    assert answer.status_code == 422
    assert answer.json()["parameter"] == parameter


@pytest.mark.asyncio
async def test_body_that_is_no_json_is_refused(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await client.put("/v1/devices/bin-7", content=b'{"domain": ', headers=headers)
    assert answer.status_code == 422
    assert answer.json()["parameter"] == "body"


@pytest.mark.asyncio
async def test_device_is_not_removed_under_a_reading_that_is_being_committed(
    client: httpx.AsyncClient, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_PATIENCE_S", 60)
    await client.put("/v1/devices/bin-7", json=BODY)
    now = datetime.now(UTC)
    await ensure_partitions(connection, "waste", [now.date()])
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT telemetry_begin_batch()")
    removal = asyncio.create_task(client.delete("/v1/devices/bin-7"))
    while not await connection.fetchval(WAITING):
        await asyncio.sleep(0.01)
        assert not removal.done()
    await connection.execute(
        """
        INSERT INTO waste_readings (time, received_at, device_key)
        SELECT $1, $1, device_key FROM devices WHERE device_id = 'bin-7'
        """,
        now,
    )
    await connection.execute(
        "INSERT INTO late_ranges (domain, bucket) VALUES ('waste', date_bin('15 minutes', now(), '2000-01-01 00:00Z'))"
    )
    await transaction.commit()
    assert (await removal).status_code == 409
    assert (await client.get("/v1/devices/bin-7")).status_code == 200


@pytest.mark.asyncio
async def test_device_with_readings_is_refused_while_batches_are_under_way(
    client: httpx.AsyncClient, city: City, connection: asyncpg.Connection
) -> None:
    await city.add([Row(datetime(2026, 11, 20, tzinfo=UTC), city.devices[0], {"power_w": 1.0})])
    async with connection.transaction():
        await connection.execute("SELECT telemetry_begin_batch()")
        assert (await client.delete("/v1/devices/lamp-1")).status_code == 409
        assert (await client.delete("/v1/devices/lamp-9")).status_code == 404


@pytest.mark.asyncio
async def test_removal_that_a_batch_holds_up_for_too_long_gives_up(
    client: httpx.AsyncClient, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_PATIENCE_S", 1)
    await client.put("/v1/devices/bin-7", json=BODY)
    async with connection.transaction():
        await connection.execute("SELECT telemetry_begin_batch()")
        assert (await client.delete("/v1/devices/bin-7")).status_code == 503
    assert (await client.delete("/v1/devices/bin-7")).status_code == 204
