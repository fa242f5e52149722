"""`GET /v1/{domain}/latest`: the last value of each metric, wherever it hides, and who is silent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from telemetry.settings import Settings
from telemetry.upkeep.rounds import run_once
from tests.integration.query.rows import City, Row


async def ask(client: httpx.AsyncClient, **parameters: Any) -> dict[str, dict[str, Any]]:
    """The rows by device."""
    answer = await client.get("/v1/lighting/latest", params={"tz": "UTC", **parameters})
    assert answer.status_code == 200, answer.text
    return {row["device_id"]: row for row in answer.json()["data"]}


def age(**parts: float) -> datetime:
    return datetime.now(UTC) - timedelta(**parts)


@pytest.mark.asyncio
@pytest.mark.parametrize("refreshed", [False, True])
async def test_latest_finds_the_last_value_of_each_metric_before_the_newest_row(
    client: httpx.AsyncClient, city: City, settings: Settings, refreshed: bool
) -> None:
    device = city.devices[0]
    rows = [
        Row(age(days=5), device, {"temperature_c": 1.0, "lamp_on": True}),
        Row(age(days=4), device, {"battery_pct": 50.0, "fault": "lamp"}),
        Row(age(minutes=40), device, {"battery_pct": 40.0, "lamp_on": False}),
        Row(age(minutes=1), device, {"power_w": 3.0}),
    ]
    await city.add(rows)
    if refreshed:
        await run_once(settings)
        late = Row(age(days=3), device, {"temperature_c": 2.0})
        await city.add([late])
        rows.append(late)
    before = datetime.now(UTC)
    found = (await ask(client))["lamp-1"]
    answered = datetime.now(UTC)
    wanted: dict[str, tuple[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row.time):
        wanted |= {name: (row.time.isoformat(), value) for name, value in row.values.items()}
    assert {name: (value["time"], value["value"]) for name, value in found["values"].items()} == wanted
    assert found["time"] == rows[3].time.isoformat()
    ages = [(at - rows[3].time).total_seconds() for at in (before, answered)]
    assert ages[0] - 0.001 <= found["age_s"] <= ages[1] + 0.001


@pytest.mark.asyncio
async def test_latest_tells_online_from_silent_by_the_interval(client: httpx.AsyncClient, city: City) -> None:
    every_900_s, unknown, every_60_s, never = city.devices
    await city.add(
        [
            Row(age(minutes=44), every_900_s, {"power_w": 1.0}),
            Row(age(minutes=59), unknown, {"power_w": 1.0}),
            Row(age(minutes=4), every_60_s, {"power_w": 1.0}),
        ]
    )
    found = await ask(client)
    assert {name: row["status"] for name, row in found.items()} == {
        "lamp-1": "online",
        "lamp-2": "online",
        "lamp-3": "silent",
        "lamp-4": "silent",
    }
    assert (found[never.device_id]["time"], found[never.device_id]["values"]) == (None, {})


@pytest.mark.asyncio
async def test_device_of_unknown_interval_is_silent_after_an_hour(client: httpx.AsyncClient, city: City) -> None:
    await city.add([Row(age(minutes=61), city.devices[1], {"power_w": 1.0})])
    assert (await ask(client, device="lamp-2"))["lamp-2"]["status"] == "silent"


@pytest.mark.asyncio
async def test_latest_looks_back_as_far_as_asked(client: httpx.AsyncClient, city: City) -> None:
    await city.add([Row(age(days=20), city.devices[0], {"power_w": 1.0})])
    assert (await ask(client, device="lamp-1"))["lamp-1"]["values"] == {}
    found = (await ask(client, device="lamp-1", since="-30d"))["lamp-1"]
    assert found["values"]["power_w"]["value"] == 1.0


@pytest.mark.asyncio
async def test_latest_filters_and_pages(client: httpx.AsyncClient, city: City) -> None:
    await city.add([Row(age(minutes=1), device, {"power_w": 1.0, "lamp_on": True}) for device in city.devices])
    assert set(await ask(client, zone="North")) == {"lamp-1", "lamp-2"}
    assert set((await ask(client, metric="lamp_on"))["lamp-1"]["values"]) == {"lamp_on"}
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = (await client.get("/v1/lighting/latest", params={"limit": 3, **cursor})).json()
        seen += [row["device_id"] for row in answer["data"]]
        if answer["meta"]["next"] is None:
            break
        cursor = {"cursor": answer["meta"]["next"]}
    assert seen == ["lamp-1", "lamp-2", "lamp-3", "lamp-4"]


@pytest.mark.asyncio
async def test_page_searches_from_where_the_first_one_did_whatever_time_it_is(
    client: httpx.AsyncClient, city: City
) -> None:
    await city.add([Row(age(minutes=50), device, {"power_w": 1.0}) for device in city.devices])
    first = (await client.get("/v1/lighting/latest", params={"since": "-1h", "limit": 3})).json()
    # As if the client had taken its time: an hour before now is later by then.
    moved = {"since": "-15m", "limit": 3, "cursor": first["meta"]["next"]}
    second = (await client.get("/v1/lighting/latest", params=moved)).json()
    assert [row["values"]["power_w"]["value"] for row in first["data"] + second["data"]] == [1.0] * 4
    assert second["meta"]["since"] == first["meta"]["since"]


@pytest.mark.asyncio
async def test_latest_of_more_devices_than_are_looked_up_at_a_time(
    client: httpx.AsyncClient, city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = city.devices
    await city.add([Row(age(minutes=2), device, {"lamp_on": True}) for device in city.devices])
    await city.add([Row(age(minutes=1), device, {"power_w": 1.0}) for device in others])
    whole = await ask(client)
    assert set(whole[first.device_id]["values"]) == {"lamp_on"}
    assert all(set(whole[device.device_id]["values"]) == {"power_w", "lamp_on"} for device in others)
    for size in (1, 2, 3, 4):
        monkeypatch.setattr("telemetry.query.latest.BLOCK", size)
        found = await ask(client)
        assert list(found) == list(whole)
        for name, row in found.items():
            assert row["values"].keys() == whole[name]["values"].keys()
            assert row["time"] == whole[name]["time"]
        answer = (await client.get("/v1/lighting/latest", params={"limit": 3})).json()
        assert [row["device_id"] for row in answer["data"]] == ["lamp-1", "lamp-2", "lamp-3"]
        assert answer["meta"]["next"] is not None
        answer = (await client.get("/v1/lighting/latest", params={"zone": "North"})).json()
        assert [row["device_id"] for row in answer["data"]] == ["lamp-1", "lamp-2"]
    answer = (await client.get("/v1/waste/latest")).json()
    assert answer["data"] == []
    assert answer["meta"]["next"] is None
