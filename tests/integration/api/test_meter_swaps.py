"""`/v1/devices/{device_id}/meter-swaps`: declared, exact in series at once, told as a change, and refused by name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from telemetry.settings import Settings
from telemetry.upkeep.rounds import run_once
from tests.integration.query.rows import City, Row

SWAPS = "/v1/devices/lamp-1/meter-swaps"
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
AT = NOON + timedelta(minutes=90)
ONE = f"{SWAPS}/energy_kwh/{AT:%Y-%m-%dT%H:%M:%SZ}"


async def increase(client: httpx.AsyncClient) -> list[tuple[float, str]]:
    """Of lamp-1 in the hours from noon on, with the quality of each."""
    asked = {"metric": "energy_kwh", "device": "lamp-1", "by": "device", "window": "1h", "tz": "UTC"}
    times = {"start": f"{NOON:%Y-%m-%dT%H:%M:%SZ}", "end": f"{NOON + timedelta(hours=4):%Y-%m-%dT%H:%M:%SZ}"}
    answer = await client.get("/v1/lighting/series", params={**asked, **times})
    return [(round(row["increase"], 6), row["quality"]) for row in answer.json()["data"]]


@pytest.mark.asyncio
async def test_swap_is_declared_counted_told_and_withdrawn(
    client: httpx.AsyncClient, city: City, settings: Settings, connection: asyncpg.Connection
) -> None:
    # A meter of 4,000 kWh was replaced by one with a start index of 700 kWh, an hour and a half after noon.
    values = [4000.0, 4010.0, 705.0, 715.0, 715.0]
    await city.add(
        Row(NOON + timedelta(hours=hour), city.devices[0], {"energy_kwh": v}) for hour, v in enumerate(values)
    )
    await run_once(settings)
    await connection.execute("UPDATE closings SET first_until = first_until - interval '30 days'")
    undeclared = [(10.0, "measured"), (705.0, "adjusted"), (10.0, "measured"), (0.0, "measured")]
    assert await increase(client) == undeclared
    since = datetime.now(UTC).isoformat()

    created = await client.put(ONE, json={"start_index": 700, "final_index": 4016})
    assert created.status_code == 201
    swap = created.json()["data"]
    assert {name: swap[name] for name in ("domain", "metric", "start_index", "final_index")} == {
        "domain": "lighting",
        "metric": "energy_kwh",
        "start_index": 700.0,
        "final_index": 4016.0,
    }
    assert (await client.get(SWAPS)).json()["data"] == [swap]
    same_instant = AT.astimezone(UTC).replace(tzinfo=None).isoformat() + "+00:00"
    assert (await client.get(f"{SWAPS}/energy_kwh/{same_instant}")).json()["data"] == swap
    declared = [(10.0, "measured"), (11.0, "adjusted"), (10.0, "measured"), (0.0, "measured")]
    assert await increase(client) == declared
    await run_once(settings)
    assert await increase(client) == declared

    again = await client.put(ONE, json={"start_index": 700, "final_index": 4016})
    assert (again.status_code, again.json()["data"]) == (200, swap)
    changed = await client.put(ONE, json={"start_index": 700})
    assert (changed.status_code, changed.json()["data"]["final_index"]) == (200, None)
    assert (await increase(client))[1] == (5.0, "adjusted")
    await run_once(settings)
    assert (await client.delete(ONE)).status_code == 204
    assert (await client.delete(ONE)).status_code == 404
    assert (await client.get(ONE)).status_code == 404
    await run_once(settings)
    assert await increase(client) == undeclared

    told = (await client.get("/v1/lighting/changes", params={"since": since, "window": "1h", "tz": "UTC"})).json()
    (row,) = told["data"]
    assert row["bucket"] == (NOON + timedelta(hours=1)).isoformat()
    assert (row["reasons"], row["late"], row["swaps"], row["changes"]) == (["swap"], 0, 3, 3)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "body", "status", "parameter", "words"),
    [
        ("/power_w/{at}Z", {}, 422, "counter", "burning_hours_h"),
        ("/energy_import_kwh/{at}Z", {}, 422, "counter", "energy_kwh"),
        ("/energy_kwh/{at}", {}, 422, "time", "offset"),
        ("/energy_kwh/now", {}, 422, "time", "offset"),
        ("/energy_kwh/2199-01-01T00:00:00Z", {}, 422, "time", "in the future"),
        ("/energy_kwh/1971-01-01T00:00:00Z", {}, 422, "time", "retention.readings"),
        ("/energy_kwh/{at}Z", {"start_index": -1}, 422, "start_index", "greater than or equal"),
        ("/energy_kwh/{at}Z", {"start_index": 1e10}, 422, "start_index", "1e+09 kWh"),
        ("/energy_kwh/{at}Z", {"final_index": 1e10}, 422, "final_index", "1e+09 kWh"),
        ("/energy_kwh/{at}Z", {"start": 1}, 422, "start", ""),
        ("/energy_kwh%00/{at}Z", {}, 422, "counter", ""),
    ],
)
async def test_swap_that_cannot_be_is_refused_by_name(
    client: httpx.AsyncClient, city: City, path: str, body: dict[str, Any], status: int, parameter: str, words: str
) -> None:
    answer = await client.put(SWAPS + path.format(at=f"{AT:%Y-%m-%dT%H:%M:%S}"), json={"start_index": 0, **body})
    assert answer.status_code == status
    assert parameter in answer.json()["parameter"]
    assert words in answer.text
    assert (await client.get(SWAPS)).json()["data"] == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("body", "parameter", "allowed"),
    [
        ({"start_index": 12.5, "final_index": 4800}, "final_index", "from 4843.8 kWh on"),
        ({"start_index": 500, "final_index": 4845}, "start_index", "up to 13.0 kWh"),
        ({"start_index": True}, "start_index", None),
        ({"start_index": "12.5"}, "start_index", None),
    ],
)
async def test_indexes_that_the_readings_contradict_are_refused(
    client: httpx.AsyncClient, city: City, body: dict[str, Any], parameter: str, allowed: str | None
) -> None:
    # Readings beyond other swaps are those of other meters, and say nothing.
    values = [9000.0, 4843.8, 13.0, 3.0]
    await city.add(
        Row(NOON + timedelta(hours=hour), city.devices[0], {"energy_kwh": v}) for hour, v in enumerate(values)
    )
    for other, start in ((30, 4843.0), (150, 2.0)):
        at = NOON + timedelta(minutes=other)
        put = await client.put(f"{SWAPS}/energy_kwh/{at:%Y-%m-%dT%H:%M:%SZ}", json={"start_index": start})
        assert put.status_code == 201, put.text
    answer = await client.put(ONE, json=body)
    assert (answer.status_code, answer.json()["parameter"]) == (422, parameter)
    if allowed is not None:
        assert answer.json()["allowed"][0] == allowed
    for right in ({"start_index": 12.5, "final_index": 4843.8}, {"start_index": 13}):
        assert (await client.put(ONE, json=right)).status_code in (200, 201)


@pytest.mark.asyncio
async def test_register_that_rolled_over_beside_its_swap_is_no_contradiction(
    client: httpx.AsyncClient, city: City
) -> None:
    for hour, value in ((1, 9_999.0), (2, 5.0)):
        await city.add([Row(NOON + timedelta(hours=hour), city.devices[0], {"energy_kwh": value})])
    answer = await client.put(ONE, json={"start_index": 99_998, "final_index": 3})
    assert answer.status_code == 201, answer.text


@pytest.mark.asyncio
async def test_swap_of_a_device_that_is_not_there_is_not_found(client: httpx.AsyncClient, city: City) -> None:
    other = ONE.replace("lamp-1", "lamp-9")
    for answer in (
        await client.put(other, json={"start_index": 0}),
        await client.get(other),
        await client.get(SWAPS.replace("lamp-1", "lamp-9")),
        await client.delete(other),
    ):
        assert (answer.status_code, answer.json()["parameter"]) == (404, "device")


@pytest.mark.asyncio
async def test_swap_whose_readings_were_dropped_is_refused_whatever_the_settings_say(
    client: httpx.AsyncClient, city: City, connection: asyncpg.Connection
) -> None:
    assert (await client.put(ONE, json={"start_index": 0})).status_code == 201
    await connection.execute("SELECT telemetry_keep_from('lighting', $1)", AT + timedelta(days=1))
    for answer in (await client.put(ONE, json={"start_index": 1}), await client.delete(ONE)):
        assert (answer.status_code, answer.json()["parameter"]) == (422, "time")
        assert "no longer kept" in answer.json()["detail"]
    assert (await client.get(ONE)).json()["data"]["start_index"] == 0
