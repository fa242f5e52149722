"""What a series can be asked for beyond its windows: filling, coverage, spread, counters and states."""

from __future__ import annotations

import statistics
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from telemetry.settings import Settings
from telemetry.upkeep.rounds import run_once
from tests.integration.query.rows import City, Row

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
RANGE = {"start": "2026-11-20T12:00:00Z", "end": "2026-11-20T17:00:00Z", "tz": "UTC", "window": "1h"}


async def ask(client: httpx.AsyncClient, **parameters: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/lighting/series", params={"metric": "power_w", **RANGE, **parameters})
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


async def add(city: City, hours: dict[float, float], device: int = 0, metric: str = "power_w") -> None:
    await city.add(
        Row(NOON + timedelta(hours=at), city.devices[device], {metric: value}) for at, value in hours.items()
    )


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, {1: 10.0, 4: 40.0}),
        ({"fill": "null"}, {0: None, 1: 10.0, 2: None, 3: None, 4: 40.0}),
        ({"fill": "zero"}, {0: 0, 1: 10.0, 2: 0, 3: 0, 4: 40.0}),
        ({"fill": "locf"}, {0: None, 1: 10.0, 2: 10.0, 3: 10.0, 4: 40.0}),
        ({"fill": "locf", "max_gap": "1h"}, {0: None, 1: 10.0, 2: 10.0, 3: None, 4: 40.0}),
        ({"fill": "locf", "max_gap": "2h"}, {0: 6.0, 1: 10.0, 2: 10.0, 3: 10.0, 4: 40.0}),
        ({"fill": "linear"}, {0: None, 1: 10.0, 2: 20.0, 3: 30.0, 4: 40.0}),
        ({"fill": "linear", "max_gap": "2h"}, {0: None, 1: 10.0, 2: None, 3: None, 4: 40.0}),
        ({"fill": "linear", "max_gap": "PT3H"}, {0: 26 / 3, 1: 10.0, 2: 20.0, 3: 30.0, 4: 40.0}),
    ],
)
async def test_buckets_without_values_are_filled_as_asked(
    client: httpx.AsyncClient, city: City, asked: dict[str, str], wanted: dict[int, float | None]
) -> None:
    await add(city, {-2: 6.0, 1: 10.0, 4: 40.0, 5.5: 70.0})
    rows = await ask(client, **asked)
    labels = {f"2026-11-20T{12 + hour}:00:00+00:00": value for hour, value in wanted.items()}
    assert {row["bucket"]: row["avg"] for row in rows} == pytest.approx(labels)
    assert all(row["samples"] == (row["avg"] in (10.0, 40.0) and not row.get("filled")) for row in rows)


@pytest.mark.asyncio
async def test_linear_fill_reaches_over_the_end(client: httpx.AsyncClient, city: City) -> None:
    await add(city, {1: 10.0, 5.5: 70.0})
    rows = await ask(client, fill="linear", max_gap="4h", start="2026-11-20T13:00:00Z")
    assert [row["avg"] for row in rows] == [10.0, 25.0, 40.0, 55.0]
    assert [row["filled"] for row in rows] == [False, True, True, True]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fill", "wanted"),
    [("locf", [(8.0, True), (20.0, False), (20.0, True)]), ("linear", [(8.0, True), (20.0, False), (50.0, True)])],
)
async def test_parts_of_buckets_that_the_range_cuts_off_reach_into_it(
    client: httpx.AsyncClient, city: City, fill: str, wanted: list[tuple[float, bool]]
) -> None:
    await add(city, {-1: 4.0, 0.25: 8.0, 1.25: 20.0, 2.75: 50.0})
    cut = {"start": "2026-11-20T12:30:00Z", "end": "2026-11-20T14:30:00Z"}
    rows = await ask(client, agg="last", fill=fill, max_gap="3h", **cut)
    assert [(row["last"], row["filled"]) for row in rows] == wanted
    # What lies within the range goes before what does not.
    rows = await ask(client, agg="last", fill=fill, max_gap="3h", start="2026-11-20T12:10:00Z", end=cut["end"])
    assert [row["last"] for row in rows] == [value for value, _ in wanted]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fill", "avg"),
    [
        ("null", [10.0, None, None, 40.0]),
        ("zero", [10.0, 0, 0, 40.0]),
        ("locf", [10.0, 10.0, 10.0, 40.0]),
        ("linear", [10.0, 20.0, 30.0, 40.0]),
    ],
)
async def test_each_aggregate_is_filled_by_itself(
    client: httpx.AsyncClient, city: City, fill: str, avg: list[float | None]
) -> None:
    await add(city, {0.5: 10.0, 3.5: 40.0})
    end = "2026-11-20T16:00:00Z"
    rows = await ask(client, agg=["avg", "time_avg", "stddev", "count"], fill=fill, end=end)
    assert [row["avg"] for row in rows] == avg == [row["avg"] for row in await ask(client, fill=fill, end=end)]
    # The line from one reading to the other is known throughout, and one reading has no deviation to fill or to carry.
    assert [row["time_avg"] for row in rows] == pytest.approx([12.5, 20.0, 30.0, 37.5])
    inner = 0 if fill == "zero" else None
    assert [row["stddev"] for row in rows] == [None, inner, inner, None]
    assert [(row["samples"], row["count"]) for row in rows] == [(1, 1), (0, 0), (0, 0), (1, 1)]
    assert [row["filled"] for row in rows] == [False, fill != "null", fill != "null", False]
    counts = await ask(client, agg="count", fill=fill, end=end)
    assert [(row["count"], row["filled"]) for row in counts] == [(1, False), (0, False), (0, False), (1, False)]


@pytest.mark.asyncio
async def test_null_of_one_aggregate_does_not_hide_the_last_value(client: httpx.AsyncClient, city: City) -> None:
    # In the third and fourth quarter the time is known, and no reading gives an average.
    await add(city, {0: 10.0, 0.25: 10.0, 2.5: 30.0})
    asked = {
        "agg": ["avg", "time_avg"],
        "fill": "locf",
        "max_gap": "3h",
        "window": "15m",
        "end": "2026-11-20T13:00:00Z",
    }
    rows = await ask(client, **asked)
    assert [(row["avg"], row["filled"]) for row in rows] == [(10.0, False)] * 2 + [(10.0, True)] * 2
    assert all(row["time_avg"] is not None for row in rows)


@pytest.mark.asyncio
async def test_every_group_is_filled_and_one_that_was_named_even_without_values(
    client: httpx.AsyncClient, city: City
) -> None:
    await add(city, {1: 10.0})
    await add(city, {2: 20.0}, device=2)
    rows = await ask(client, fill="null", by="device", device=["lamp-1", "lamp-2", "lamp-3"], agg=["avg", "count"])
    assert len(rows) == 15
    assert [(row["device_id"], row["avg"], row["count"]) for row in rows[3:6]] == [
        ("lamp-1", 10.0, 1),
        ("lamp-2", None, 0),
        ("lamp-3", None, 0),
    ]
    assert await ask(client, fill="null", zone="North", by="zone") == [
        {"bucket": f"2026-11-20T{hour}:00:00+00:00", "zone": "North", "metric": "power_w"}
        | {"avg": 10.0 if hour == 13 else None, "samples": int(hour == 13), "coverage": None, "filled": False}
        for hour in range(12, 17)
    ]


@pytest.mark.asyncio
async def test_group_that_the_other_filter_excludes_is_not_filled(client: httpx.AsyncClient, city: City) -> None:
    await add(city, {1: 10.0})
    lamps, hour = ["lamp-1", "lamp-3"], {"fill": "null", "end": "2026-11-20T13:00:00Z"}
    rows = await ask(client, by="device", device=lamps, zone="South", **hour)
    assert [row["device_id"] for row in rows] == ["lamp-3"]
    rows = await ask(client, by="zone", device="lamp-3", zone=["North", "South"], **hour)
    assert [row["zone"] for row in rows] == ["South"]
    assert await ask(client, by="device", device="lamp-1", zone="South", **hour) == []
    assert [row["avg"] for row in await ask(client, device="lamp-1", zone="South", **hour)] == [None]


@pytest.mark.asyncio
async def test_bucket_that_has_not_begun_stays_empty(client: httpx.AsyncClient, city: City) -> None:
    now = datetime.now(UTC)
    await city.add([Row(now - timedelta(minutes=1), city.devices[0], {"power_w": 1.0})])
    end = (now + timedelta(hours=3)).isoformat()
    rows = await ask(client, start="-2h", end=end, window="15m", fill="locf")
    zeros = await ask(client, start="-2h", end=end, window="15m", fill="zero")
    # Whatever begins later had not begun when it was asked for, either.
    answered = datetime.now(UTC).isoformat()
    assert {row["avg"] for row in rows if row["bucket"] > answered} == {None}
    assert {row["avg"] for row in zeros if row["bucket"] > answered} == {None}


@pytest.mark.asyncio
@pytest.mark.parametrize("refreshed", [False, True])
async def test_coverage_of_a_group_counts_every_device_that_was_there(
    client: httpx.AsyncClient, city: City, settings: Settings, connection: asyncpg.Connection, refreshed: bool
) -> None:
    # lamp-1 keeps 900 s, lamp-3 60 s: 64 values an hour together.
    await city.add(Row(NOON + timedelta(minutes=15 * n), city.devices[0], {"power_w": 1.0}) for n in range(8))
    await city.add(Row(NOON + timedelta(minutes=n), city.devices[2], {"power_w": 1.0}) for n in range(60))
    if refreshed:
        await run_once(settings)
    assert [row["coverage"] for row in await ask(client)] == [None, None]
    assert [(row["samples"], row["coverage"]) for row in await ask(client, coverage="true")] == [(64, 1.0), (4, 0.0625)]
    by_zone = await ask(client, coverage="true", by="zone")
    assert [(row["zone"], row["coverage"]) for row in by_zone] == [("North", 1.0), ("South", 1.0), ("North", 1.0)]
    assert [row["avg"] for row in await ask(client, min_coverage=0.5)] == [1.0, None]
    # The registry came to know them afterwards: of the second hour alone, only lamp-1 is known to have been there.
    (alone,) = await ask(client, coverage="true", start="2026-11-20T13:00:00Z", end="2026-11-20T14:00:00Z")
    assert (alone["samples"], alone["coverage"]) == (4, 1.0)
    await connection.execute("UPDATE devices SET first_seen = '2026-11-01T00:00:00Z'")
    (alone,) = await ask(client, coverage="true", start="2026-11-20T13:00:00Z", end="2026-11-20T14:00:00Z")
    assert (alone["samples"], alone["coverage"]) == (4, 0.0625)
    # An interval that is not known makes the coverage unknown, and nothing is withheld.
    await add(city, {0: 1.0}, device=1)
    assert [row["coverage"] for row in await ask(client, coverage="true")] == [None, None]
    assert [row["avg"] for row in await ask(client, min_coverage=0.5)] == [1.0, 1.0]


@pytest.mark.asyncio
async def test_withheld_values_are_neither_filled_nor_carried_on(client: httpx.AsyncClient, city: City) -> None:
    await add(city, {0: 1.0, 0.25: 1.0, 0.5: 1.0, 0.75: 1.0, 1: 5.0})
    rows = await ask(client, by="device", min_coverage=1, fill="locf")
    assert [(row["avg"], row["samples"], row["coverage"], row["filled"]) for row in rows] == [
        (1.0, 4, 1.0, False),
        (None, 1, 0.25, False),
        (1.0, 0, 0.0, True),
        (1.0, 0, 0.0, True),
        (1.0, 0, 0.0, True),
    ]


@pytest.mark.asyncio
async def test_spread_is_that_of_all_values(client: httpx.AsyncClient, city: City) -> None:
    values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]
    await add(city, {number / 10: value for number, value in enumerate(values)})
    (row,) = await ask(client, agg=["stddev", "p50", "p90", "avg"], percentile=["25", "99.9"], by="zone")
    cuts = statistics.quantiles(values, n=1000, method="inclusive")
    assert row["zone"] == "North"
    assert row["stddev"] == pytest.approx(statistics.stdev(values))
    assert (row["p25"], row["p50"], row["avg"]) == (cuts[249], statistics.median(values), statistics.mean(values))
    assert (row["p90"], row["p99.9"]) == (pytest.approx(cuts[899]), pytest.approx(cuts[998]))
    assert row["samples"] == 8


@pytest.mark.asyncio
async def test_defaults_follow_the_kind_of_the_metric(client: httpx.AsyncClient, city: City) -> None:
    device = city.devices[0]
    for hour, energy, lamp_on, fault in ((0, 5.0, True, "none"), (1, 7.0, False, "lamp"), (2, 9.0, False, "none")):
        values = {"power_w": 10.0, "energy_kwh": energy, "lamp_on": lamp_on, "fault": fault}
        await city.add([Row(NOON + timedelta(hours=hour), device, values)])
    answer = await client.get(
        "/v1/lighting/series", params={"metric": ["power_w", "energy_kwh", "lamp_on", "fault"], **RANGE}
    )
    meta = {metric["name"]: metric["aggregates"] for metric in answer.json()["meta"]["metrics"]}
    assert meta == {
        "power_w": [{"name": "avg", "unit": "W", "combine": "rows"}],
        "energy_kwh": [{"name": "increase", "unit": "kWh", "combine": "sum"}],
        "lamp_on": [{"name": "share", "unit": "1", "combine": "mean"}],
        "fault": [{"name": "share", "unit": "1", "combine": "mean"}],
    }
    first = [row for row in answer.json()["data"] if "T12:" in row["bucket"]]
    assert [row.get("avg", row.get("increase", row.get("share"))) for row in first] == [10.0, 2.0, 1.0, {"none": 1.0}]
    assert [row.get("quality") for row in first] == [None, "measured", None, None]


@pytest.mark.asyncio
async def test_meta_tells_which_aggregates_were_read_from_raw_rows(
    client: httpx.AsyncClient, city: City, settings: Settings
) -> None:
    await add(city, {0: 1.0, 1: 2.0})
    await run_once(settings)
    asked = {"metric": "power_w", **RANGE, "agg": ["avg", "p50", "integral"], "explain": "true"}
    meta = (await client.get("/v1/lighting/series", params=asked)).json()["meta"]
    spans = [["2026-11-20T12:00:00+00:00", "2026-11-20T17:00:00+00:00"]]
    assert meta["source"] == "lighting_1h+lighting_readings"
    assert sum(each.pop("rows") for each in meta["plan"]) == meta["rows_read"]["estimate"]
    assert meta["plan"] == [
        {"relation": "lighting_1h", "spans": spans},
        {"relation": "lighting_readings", "spans": spans, "aggregates": ["p50", "integral"]},
    ]
    asked |= {"metric": "energy_kwh", "agg": ["increase", "rate"]}
    meta = (await client.get("/v1/lighting/series", params=asked)).json()["meta"]
    assert meta["source"] == "lighting_1h+lighting_counters_1h"
    assert [(each["relation"], each.get("aggregates")) for each in meta["plan"]] == [
        ("lighting_1h", None),
        ("lighting_counters_1h", ["increase", "rate"]),
    ]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("given", "parameter", "part"),
    [
        ({"fill": "cubic"}, "fill", "no way to fill"),
        ({"fill": "linear", "metric": "fault"}, "fill", "no line between"),
        ({"max_gap": "long"}, "max_gap", "no duration"),
        ({"max_gap": "0s"}, "max_gap", "longer than nothing"),
        ({"max_gap": "999999999w"}, "max_gap", "century"),
        ({"max_gap": "36600d", "fill": "locf", "window": "1s"}, "max_gap", "3,162,240,000 buckets before the range"),
        ({"max_gap": "36600d", "fill": "linear", "window": "1s"}, "max_gap", "500,000 are allowed"),
        ({"max_gap": "200d", "fill": "locf", "window": "1m", "by": "device"}, "max_gap", "x 4 series"),
        ({"min_coverage": "1.5"}, "min_coverage", "between 0 and 1"),
        ({"percentile": "101"}, "percentile", "between 0 and 100"),
        ({"percentile": "nan"}, "percentile", "between 0 and 100"),
        ({"percentile": "99.99999"}, "percentile", "at most 4 decimals"),
        ({"percentile": "1e-300"}, "percentile", "at most 4 decimals"),
        ({"combine": "sum", "agg": "max"}, "combine", "does not fit max"),
        ({"combine": "all"}, "combine", "no way to combine"),
        ({"combine": "rows", "metric": "energy_kwh"}, "combine", "does not fit increase"),
        ({"reset": "maybe"}, "reset", "no way to go on"),
        ({"agg": "increase"}, "agg", "power_w is a gauge, which has no increase"),
        ({"agg": "p95", "metric": "energy_kwh"}, "agg", "energy_kwh is a counter, which has no p95"),
        ({"agg": "p101"}, "agg", "no aggregate of that name"),
        ({"agg": "time_avg", "metric": "fault"}, "agg", "fault is a state, which has no time_avg"),
    ],
)
async def test_refusal_names_the_parameter(
    client: httpx.AsyncClient, city: City, given: dict[str, str], parameter: str, part: str
) -> None:
    answer = await client.get("/v1/lighting/series", params={"metric": "power_w", **RANGE, **given})
    assert answer.status_code == 422
    assert answer.json()["parameter"] == parameter
    assert part in answer.json()["detail"]


@pytest.mark.asyncio
async def test_bucket_that_the_next_reading_will_change_is_not_settled(client: httpx.AsyncClient, city: City) -> None:
    """`increase` and `time_avg` need the reading after a bucket; until it comes, its last part is not told."""
    await add(city, {0: 100.0, 4.5: 145.0}, metric="energy_kwh")
    await add(city, {0: 100.0, 3: 130.0}, device=1, metric="energy_kwh")
    assert await settled_until(client, "energy_kwh") == "2026-11-20T15:00:00+00:00"
    assert await settled_until(client, "energy_kwh", by="device") == "2026-11-20T15:00:00+00:00"
    before = await ask(client, metric="energy_kwh")
    await add(city, {6: 160.0}, device=1, metric="energy_kwh")
    assert await settled_until(client, "energy_kwh") == "2026-11-20T16:30:00+00:00"
    await add(city, {7: 170.0}, metric="energy_kwh")
    assert await settled_until(client, "energy_kwh") == RANGE["end"].replace("Z", "+00:00")
    after = await ask(client, metric="energy_kwh")
    assert [row["increase"] for row in before] == pytest.approx([20, 20, 20, 10, 5])
    assert [row["increase"] for row in after] == pytest.approx([20, 20, 20, 20, 20])


@pytest.mark.asyncio
async def test_gauges_over_time_say_how_far_they_are_settled_and_rows_have_no_need_to(
    client: httpx.AsyncClient, city: City
) -> None:
    await add(city, {0: 10.0, 1.25: 20.0})
    assert await settled_until(client, "power_w", agg="integral") == "2026-11-20T13:15:00+00:00"
    # Nothing lies in that range yet, but the next reading draws a line through it.
    late = {"agg": "integral", "start": "2026-11-20T14:00:00Z"}
    assert await settled_until(client, "power_w", **late) == "2026-11-20T13:15:00+00:00"
    assert await settled_until(client, "power_w", agg="avg") is None


@pytest.mark.asyncio
async def test_device_that_is_silent_since_before_the_range_holds_it_up(client: httpx.AsyncClient, city: City) -> None:
    """Its next reading tells what its counter gained all the time, within the range as well."""
    await add(city, {-30: 10.0}, device=1, metric="energy_kwh")
    await add(city, {0: 100.0, 6: 160.0}, metric="energy_kwh")
    assert await settled_until(client, "energy_kwh") == "2026-11-19T06:00:00+00:00"
    assert await settled_until(client, "energy_kwh", device="lamp-1") == "2026-11-20T17:00:00+00:00"
    before = await ask(client, metric="energy_kwh")
    await add(city, {30: 40.0}, device=1, metric="energy_kwh")
    assert await settled_until(client, "energy_kwh") == "2026-11-20T17:00:00+00:00"
    after = await ask(client, metric="energy_kwh")
    assert [row["increase"] for row in before] == pytest.approx([10.0] * 5)
    assert [row["increase"] for row in after] == pytest.approx([10.5] * 5)


@pytest.mark.asyncio
async def test_device_with_a_single_reading_holds_up_what_is_behind_it(client: httpx.AsyncClient, city: City) -> None:
    await add(city, {0: 100.0, 6: 160.0}, metric="energy_kwh")
    await add(city, {2: 10.0}, device=1, metric="energy_kwh")
    assert await settled_until(client, "energy_kwh") == "2026-11-20T14:00:00+00:00"


@pytest.mark.asyncio
async def test_reading_that_would_be_too_far_away_holds_nothing_up(client: httpx.AsyncClient, city: City) -> None:
    await add(city, {-1: 1.0, 1: 2.0})
    await add(city, {-1: 1.0, 3: 2.0, 3.5: 3.0}, device=1)
    asked = {"agg": "integral", "by": "device"}
    assert await settled_until(client, "power_w", **asked) == "2026-11-20T13:00:00+00:00"
    assert await settled_until(client, "power_w", **asked, max_gap="5h") == "2026-11-20T17:00:00+00:00"
    # For a counter no reading is too far away: what it gained meanwhile was gained within the range as well.
    old = {"start": "2026-09-20T12:00:00Z", "end": "2026-09-20T17:00:00Z"}
    await add(city, {-61 * 24: 1.0, -61 * 24 + 1: 2.0}, metric="energy_kwh")
    assert await settled_until(client, "energy_kwh", **old) == "2026-09-20T13:00:00+00:00"
    await add(city, {0: 3.0}, metric="energy_kwh")
    assert await settled_until(client, "energy_kwh", **old) == "2026-09-20T17:00:00+00:00"


async def settled_until(client: httpx.AsyncClient, metric: str, **parameters: Any) -> Any:
    answer = await client.get("/v1/lighting/series", params={**RANGE, "metric": metric, **parameters})
    return answer.json()["meta"]["settled_until"]


@pytest.mark.asyncio
async def test_readings_that_are_gone_are_said_to_be_gone(
    client: httpx.AsyncClient, city: City, settings: Settings, connection: asyncpg.Connection
) -> None:
    await add(city, {-24: 1.0, 0: 2.0})
    await run_once(settings)
    await connection.fetch("SELECT telemetry_drop_partitions('lighting', '2026-11-20T00:00:00Z')")
    old = {"metric": "power_w", "start": "2026-11-19T00:00:00Z", "end": "2026-11-21T00:00:00Z", "tz": "UTC"}
    refused = await client.get("/v1/lighting/series", params={**old, "agg": "p90"})
    assert refused.status_code == 422
    problem = refused.json()
    assert problem["type"] == "urn:telemetry:problem:not-kept"
    assert (problem["parameter"], problem["given"]) == ("start", "2026-11-19T00:00:00+00:00")
    assert problem["kept_from"] == "2026-11-20T00:00:00Z"
    assert problem["allowed"][0] == "agg=avg"
    assert problem["allowed"][-1] == "start=2026-11-20T00:00:00+00:00"
    exact = (await client.get("/v1/lighting/series", params={**old, "window": "1d"})).json()
    assert [row["avg"] for row in exact["data"]] == [1.0, 2.0]
    assert exact["meta"]["complete_from"] is None
    carried = await client.get(
        "/v1/lighting/series",
        params={**old, "start": "2026-11-20T00:00:00Z", "agg": "time_avg", "max_gap": "6h", "format": "csv"},
    )
    assert carried.headers["Telemetry-Complete-From"] == "2026-11-20T06:00:00+00:00"
    for start, told in (("2026-11-19T00:00:00Z", "2026-11-20T00:00:00+00:00"), ("2026-11-20T00:00:00Z", None)):
        rows = await client.get("/v1/lighting/readings", params={"start": start, "tz": "UTC"})
        assert len(rows.json()["data"]) == 1
        assert rows.json()["meta"]["complete_from"] == told
        assert rows.headers.get("Telemetry-Complete-From") == told
