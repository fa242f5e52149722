"""`GET /v1/{domain}/readings`: every stored row, once, in order, whatever the size of a page."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests.integration.query.rows import City, Row

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
RANGE = {"start": "2026-11-20T12:00:00Z", "end": "2026-11-20T13:00:00Z", "tz": "UTC"}


async def pages(client: httpx.AsyncClient, **parameters: Any) -> list[list[dict[str, Any]]]:
    """All pages, by following the cursors."""
    found = []
    cursor: dict[str, str] = {}
    while True:
        answer = await client.get("/v1/lighting/readings", params={**RANGE, **parameters, **cursor})
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["data"])
        following = answer.json()["meta"]["next"]
        if following is None:
            return found
        cursor = {"cursor": following}


async def fill(city: City) -> list[tuple[str, str]]:
    """Every device at the same instants; the last row lies on the end of the range. Returns times and ids in order."""
    rows = [
        Row(NOON + timedelta(minutes=15 * quarter), device, {"power_w": float(quarter)})
        for quarter in range(5)
        for device in city.devices
    ]
    await city.add(rows)
    return [(row.time.isoformat(), row.device.device_id) for row in rows if row.time < NOON + timedelta(hours=1)]


@pytest.mark.asyncio
@pytest.mark.parametrize("limit", [1, 3, 4, 16, 100])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_together_are_all_rows_in_order(
    client: httpx.AsyncClient, city: City, limit: int, order: str
) -> None:
    wanted = await fill(city)
    found = await pages(client, limit=limit, order=order)
    rows = [(row["time"], row["device_id"]) for page in found for row in page]
    assert rows == (wanted if order == "asc" else wanted[::-1])
    assert all(len(page) <= limit for page in found)


@pytest.mark.asyncio
async def test_page_goes_on_in_the_range_of_the_first_one_whatever_time_it_is(
    client: httpx.AsyncClient, city: City
) -> None:
    now = datetime.now(UTC)
    ages = (50, 40, 30, 20, 10)
    await city.add([Row(now - timedelta(minutes=each), city.devices[0], {"power_w": each}) for each in ages])
    first = (await client.get("/v1/lighting/readings", params={"start": "-1h", "limit": 2})).json()
    # As if the client had taken its time: an hour before now is later by then, and now is.
    moved = {"start": "-15m", "end": (now - timedelta(minutes=5)).isoformat(), "cursor": first["meta"]["next"]}
    rest = (await client.get("/v1/lighting/readings", params={"limit": 3, **moved})).json()
    assert [row["power_w"] for row in first["data"] + rest["data"]] == [*ages]
    assert [rest["meta"][name] == first["meta"][name] for name in ("start", "end")] == [True, True]


@pytest.mark.asyncio
async def test_row_shows_what_was_stored(client: httpx.AsyncClient, city: City, connection: asyncpg.Connection) -> None:
    at = NOON + timedelta(microseconds=123456)
    await city.add([Row(at, city.devices[0], {"power_w": 0.1, "lamp_on": False, "fault": "lamp"})])
    await connection.execute("""UPDATE lighting_readings SET attributes = '{"firmware": "1.4", "n": [1, null]}'""")
    ((row,),) = await pages(client)
    assert row["time"] == row["received_at"] == "2026-11-20T12:00:00.123456+00:00"
    assert (row["device_id"], row["power_w"], row["lamp_on"], row["fault"]) == ("lamp-1", 0.1, False, "lamp")
    assert row["voltage_v"] is None
    assert row["attributes"] == {"firmware": "1.4", "n": [1, None]}


@pytest.mark.asyncio
@pytest.mark.parametrize("form", ["json", "ndjson", "csv", "excel", "arrow"])
async def test_attributes_are_told_as_they_are_stored_whatever_number_is_in_them(
    client: httpx.AsyncClient, city: City, connection: asyncpg.Connection, form: str
) -> None:
    await city.add([Row(NOON, city.devices[0], {"power_w": 1.0}), Row(NOON, city.devices[1], {"power_w": 2.0})])
    stored = """{"e": 1e5000, "d": 0.12345678901234567890123, "t": "é"}"""
    await connection.execute("UPDATE lighting_readings SET attributes = $1::jsonb WHERE power_w = 1", stored)
    answer = await client.get("/v1/lighting/readings", params={**RANGE, "format": form})
    assert answer.status_code == 200
    for part in (b"1" + b"0" * 5000, b"0.12345678901234567890123", "é".encode()):
        assert part in answer.content
    if form == "json":
        rows = json.loads(answer.content, parse_int=str)["data"]
        assert [row["attributes"] and row["attributes"]["e"] for row in rows] == ["1" + "0" * 5000, None]


@pytest.mark.asyncio
async def test_metrics_choose_columns_and_rows_that_have_one(client: httpx.AsyncClient, city: City) -> None:
    await city.add(
        [
            Row(NOON, city.devices[0], {"power_w": 1.0, "voltage_v": 230.0}),
            Row(NOON, city.devices[1], {"voltage_v": 231.0}),
            Row(NOON, city.devices[2], {"lamp_on": True}),
        ]
    )
    (rows,) = await pages(client, metric=["power_w", "voltage_v"], device=["lamp-1", "lamp-2", "lamp-3"])
    assert [(row["device_id"], row["power_w"], row["voltage_v"]) for row in rows] == [
        ("lamp-1", 1.0, 230.0),
        ("lamp-2", None, 231.0),
    ]
    assert set(rows[0]) == {"time", "received_at", "device_id", "power_w", "voltage_v", "attributes"}
    (rows,) = await pages(client, zone="South")
    assert [row["device_id"] for row in rows] == ["lamp-3"]


@pytest.mark.asyncio
@pytest.mark.parametrize("form", ["ndjson", "csv"])
async def test_every_form_has_the_same_rows_and_a_link_to_the_next_page(
    client: httpx.AsyncClient, city: City, connection: asyncpg.Connection, form: str
) -> None:
    wanted = await fill(city)
    await connection.execute("""UPDATE lighting_readings SET lamp_on = true, attributes = '{"a": "x,\\"y"}'""")
    address, seen = "/v1/lighting/readings?" + str(httpx.QueryParams({**RANGE, "limit": 5, "format": form})), []
    while address:
        answer = await client.get(address)
        address = answer.links.get("next", {}).get("url", "")
        if form == "ndjson":
            rows = [json.loads(line) for line in answer.text.splitlines()]
        else:
            rows = [as_read(row) for row in csv.DictReader(io.StringIO(answer.text, newline=""))]
        seen += rows
    assert [(row["time"], row["device_id"]) for row in seen] == wanted
    (whole,) = await pages(client)
    assert seen == whole


def as_read(row: dict[str, str]) -> dict[str, Any]:
    """A row of CSV with the values that its texts stand for."""
    texts = {"time", "received_at", "device_id", "fault"}
    return {
        name: (value or None) if name in texts else json.loads(value) if value else None for name, value in row.items()
    }


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "10001"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"cursor": "WyJsYW1wLTIiXQ"}, "cursor"),
        ({"order": "up"}, "order"),
        ({"metric": "watts"}, "metric"),
        ({"device": "lamp-9"}, "device"),
        ({"window": "1h"}, "window"),
    ],
)
async def test_refusal_names_the_parameter(
    client: httpx.AsyncClient, city: City, given: dict[str, str], parameter: str
) -> None:
    answer = await client.get("/v1/lighting/readings", params=given)
    assert answer.status_code == 422
    assert answer.json()["parameter"] == parameter
