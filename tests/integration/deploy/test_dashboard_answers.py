"""What the panels say about the city is what has happened in it."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from telemetry.simulate.profiles import payload
from telemetry.store.pool import connection
from tests.integration.deploy.conftest import FilledDatabase
from tests.integration.deploy.filled_city import (
    DAY_BURNER,
    FLEET,
    METER,
    RESET_METER,
    SILENT,
    STUCK_SPOT,
    UNNAMED,
    Span,
    measured,
)
from tests.integration.deploy.test_dashboard_queries import named, run, view

PARIS = ZoneInfo("Europe/Paris")
MIDNIGHT = time()


async def rows(
    reader: asyncpg.Connection, filled: FilledDatabase, dashboard: str, panel: str, **chosen: list[str]
) -> list[dict[str, Any]]:
    query = named(dashboard, panel)
    _, found = await run(reader, query, view(filled, query, chosen=chosen))
    return [dict(row) for row in found]


def midnights(span: Span) -> list[datetime]:
    """The city's midnights within the span, which may begin and end with one."""
    return [each for each in span.times if each.astimezone(PARIS).time() == MIDNIGHT]


@pytest.mark.asyncio
async def test_consumption_of_a_day_is_what_the_index_rose_from_midnight_to_midnight(
    reader: asyncpg.Connection, filled: FilledDatabase
) -> None:
    days = await rows(reader, filled, "energy", "Consumption per day", device=[METER.device_id])
    edges = [*midnights(filled.span), filled.span.end]
    index = [float(payload(METER, edge)["energy_import_kwh"]) for edge in edges]
    assert [day["time"] for day in days] == edges[:-1]
    risen = [after - before for before, after in pairwise(index)]
    assert [day["Consumption"] for day in days] == pytest.approx(risen, abs=0.002)


@pytest.mark.asyncio
async def test_exchanged_meter_neither_loses_nor_invents_consumption(
    reader: asyncpg.Connection, filled: FilledDatabase
) -> None:
    days = await rows(reader, filled, "energy", "Consumption per day", device=[RESET_METER.device_id])
    start, end = midnights(filled.span)[0], filled.span.end
    used = [float(payload(RESET_METER, time)["energy_import_kwh"]) for time in (start, end)]
    quarter_of_an_hour = max(float(payload(RESET_METER, time)["active_power_w"]) for time in filled.span.times) / 4000
    assert all(day["Consumption"] >= 0 for day in days)
    assert sum(day["Consumption"] for day in days) == pytest.approx(used[1] - used[0], abs=quarter_of_an_hour + 0.1)
    (meter,) = await rows(reader, filled, "energy", "Meters", device=[RESET_METER.device_id])
    assert meter["Index fell"]


@pytest.mark.asyncio
async def test_lamps_are_counted_once_whatever_they_reported(
    reader: asyncpg.Connection, filled: FilledDatabase
) -> None:
    (now,) = await rows(reader, filled, "lighting", "Lamps")
    lamps = [device for device in FLEET if device.domain == "lighting"]
    lit = sum(bool(measured(lamp, filled.span.end, filled.span)["lamp_on"]) for lamp in lamps) + 1
    assert now == {"Lit": lit, "Dark": len(lamps) + 1 - lit}


@pytest.mark.asyncio
async def test_faulty_lamp_is_listed_since_it_broke(reader: asyncpg.Connection, filled: FilledDatabase) -> None:
    listed = {row["Id"]: row for row in await rows(reader, filled, "lighting", "Lamps with a fault")}
    broken = listed["lamp-00001"]
    assert broken["Fault"] == "driver"
    assert timedelta(hours=5) <= filled.span.end - broken["Since"] <= timedelta(hours=7)


@pytest.mark.asyncio
async def test_lamp_that_burns_by_day_is_listed_even_when_chosen_alone(
    reader: asyncpg.Connection, filled: FilledDatabase
) -> None:
    for chosen in ({}, {"device": [DAY_BURNER]}):
        listed = await rows(reader, filled, "lighting", "Lamps against the rest", **chosen)
        (burner,) = [row for row in listed if row["Id"] == DAY_BURNER]
        assert burner["Lit by day"] > 12
        assert burner["Energy"] == pytest.approx(0.041 * burner["Lit by day"])


@pytest.mark.asyncio
async def test_free_spots_are_those_of_car_parks_and_single_spots(
    reader: asyncpg.Connection, filled: FilledDatabase
) -> None:
    last = [measured(each, filled.span.end, filled.span) for each in FLEET if each.domain == "parking"]
    total = sum(float(values.get("total_spots", 1)) for values in last)
    taken = sum(float(values.get("occupied_spots", values.get("occupied", 0))) for values in last)
    (now,) = await rows(reader, filled, "parking", "Free spots")
    assert now == {"Free": total - taken, "In service": total}


@pytest.mark.asyncio
async def test_arrivals_of_an_hour_are_what_the_counter_rose(
    reader: asyncpg.Connection, filled: FilledDatabase
) -> None:
    park = next(device for device in FLEET if device.kind == "shoppers")
    hours = await rows(reader, filled, "parking", "Arrivals per hour", device=[park.device_id])
    for hour in hours[:-1]:
        start, end = (payload(park, hour["time"] + timedelta(hours=ahead))["arrivals"] for ahead in (0, 1))
        assert hour["Arrivals"] == float(end) - float(start)


@pytest.mark.asyncio
async def test_spot_that_never_changes_is_listed(reader: asyncpg.Connection, filled: FilledDatabase) -> None:
    (stuck,) = [
        row
        for row in await rows(reader, filled, "parking", "Spots without a change")
        if row["Id"] == STUCK_SPOT.device_id
    ]
    assert stuck["State"] == "taken"


@pytest.mark.asyncio
async def test_containers_in_trouble_stand_out(reader: asyncpg.Connection, filled: FilledDatabase) -> None:
    fullest = {row["Id"]: row for row in await rows(reader, filled, "waste", "Fullest containers")}
    assert fullest["bin-00001"]["Fill level"] == 97.0
    assert 0 < fullest["bin-00001"]["Days until full"] < 1
    (lying,) = await rows(reader, filled, "waste", "Tilted or hot", device=["bin-00001"])
    assert (lying["Tilted"], lying["Highest temperature"]) == (True, 71.0)
    assert (await rows(reader, filled, "waste", "Hot"))[0]["Hot"] == 1
    assert (await rows(reader, filled, "waste", "Weakest batteries"))[0]["Battery"] == 9.0


@pytest.mark.asyncio
async def test_emptying_is_told_from_noise(reader: asyncpg.Connection, filled: FilledDatabase) -> None:
    emptied = await rows(reader, filled, "waste", "Emptyings")
    assert emptied
    assert all(row["Before"] - row["After"] >= 20 for row in emptied)


@pytest.mark.asyncio
async def test_silent_and_undescribed_devices_are_named(reader: asyncpg.Connection, filled: FilledDatabase) -> None:
    silent = await rows(reader, filled, "data-quality", "Which devices are silent")
    assert [(row["Id"], row["Silent for"]) for row in silent] == [(SILENT, 86_400.0)]
    missing = {
        row["Id"]: row["Missing"] for row in await rows(reader, filled, "data-quality", "Devices to be described")
    }
    assert missing == {UNNAMED: "zone, place, interval", SILENT: "place, interval"}


@pytest.mark.asyncio
async def test_accounts_are_balanced_and_a_lost_reading_is_seen(
    reader: asyncpg.Connection, filled: FilledDatabase
) -> None:
    assert await rows(reader, filled, "data-quality", "Imbalance") == [{"In the range": 0, "Ever": 0}]
    lost = "UPDATE ledger SET readings = readings {} 1 WHERE domain = $1 AND outcome = 'received'"
    async with connection(filled.settings, "test") as database:
        # One too many here must not make up for one too few there.
        for domain, sign in (("waste", "+"), ("parking", "-")):
            await database.execute(lost.format(sign), domain)
        try:
            assert await rows(reader, filled, "data-quality", "Imbalance") == [{"In the range": 2, "Ever": 2}]
        finally:
            for domain, sign in (("waste", "-"), ("parking", "+")):
                await database.execute(lost.format(sign), domain)


@pytest.mark.asyncio
async def test_refused_messages_are_counted_by_reason(reader: asyncpg.Connection, filled: FilledDatabase) -> None:
    refused = {
        (row["Reason"], row["Device"]): row
        for row in await rows(reader, filled, "data-quality", "Quarantine by device")
    }
    assert refused[("out_of_range", "lamp-00002")]["Messages"] == 2
    assert refused[("out_of_range", "lamp-00002")]["Last detail"] == "power_w: -4 is less than 0"
    assert refused[("malformed", "unknown")]["Messages"] == 1
