"""`GET /v1/{domain}/series`, asked as its users ask."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from telemetry.settings import Settings
from telemetry.upkeep.rounds import run_once
from tests.integration.query.rows import City, Row

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MIDDAY = {"start": "2026-11-20T12:00:00Z", "end": "2026-11-20T14:00:00Z", "tz": "UTC"}


async def fill(city: City) -> None:
    """Two hours, a reading each half an hour, lamp-n with n W in the first hour and 10 n W in the second."""
    await city.add(
        Row(NOON + timedelta(minutes=30 * half), device, {"power_w": float(number * (10 if half > 1 else 1))})
        for number, device in enumerate(city.devices, 1)
        for half in range(4)
    )


async def ask(client: httpx.AsyncClient, **parameters: Any) -> dict[str, Any]:
    answer = await client.get("/v1/lighting/series", params={"metric": "power_w", **MIDDAY, **parameters})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    return body


async def refused(client: httpx.AsyncClient, **parameters: Any) -> dict[str, Any]:
    answer = await client.get("/v1/lighting/series", params={"metric": "power_w", **MIDDAY, **parameters})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.asyncio
async def test_series_has_a_row_per_bucket_and_zone_in_order(client: httpx.AsyncClient, city: City) -> None:
    await fill(city)
    answer = await ask(client, by="zone", agg=["avg", "max", "count"])
    first, second = "2026-11-20T12:00:00+00:00", "2026-11-20T13:00:00+00:00"
    assert answer["data"] == [
        {"bucket": bucket, "zone": zone, "metric": "power_w", "avg": avg, "max": top, "count": n, "samples": n}
        | {"coverage": None}
        for bucket, zone, avg, top, n in [
            (first, "North", 1.5, 2.0, 4),
            (first, "South", 3.0, 3.0, 2),
            (first, None, 4.0, 4.0, 2),
            (second, "North", 15.0, 20.0, 4),
            (second, "South", 30.0, 30.0, 2),
            (second, None, 40.0, 40.0, 2),
        ]
    ]


@pytest.mark.asyncio
async def test_series_by_device_tells_coverage_where_the_interval_is_known(
    client: httpx.AsyncClient, city: City
) -> None:
    await fill(city)
    answer = await ask(client, by="device", window="2h")
    assert [(row["device_id"], row["avg"], row["samples"], row["coverage"]) for row in answer["data"]] == [
        ("lamp-1", 5.5, 4, 0.5),
        ("lamp-2", 11.0, 4, None),
        ("lamp-3", 16.5, 4, 0.0333),
        ("lamp-4", 22.0, 4, None),
    ]


@pytest.mark.asyncio
async def test_series_filters_by_device_and_zone(client: httpx.AsyncClient, city: City) -> None:
    await fill(city)
    by_device = await ask(client, window="1d", agg="sum", device=["lamp-1", "lamp-3"])
    by_zone = await ask(client, window="1d", agg="sum", zone="North")
    by_both = await ask(client, window="1d", agg="sum", zone="North", device=["lamp-1", "lamp-3"])
    assert [answer["data"][0]["sum"] for answer in (by_device, by_zone, by_both)] == [22 + 66, 22 + 44, 22]


@pytest.mark.asyncio
async def test_series_meta_tells_what_was_asked_and_where_it_was_read(
    client: httpx.AsyncClient, city: City, settings: Settings
) -> None:
    await fill(city)
    await run_once(settings)
    answer = await ask(client, explain="true", metric=["power_w", "voltage_v"])
    meta = answer["meta"]
    assert meta.pop("as_of")
    assert meta.pop("closed_until") > meta["end"]
    assert meta.pop("settled_until") is None
    assert meta.pop("complete_from") is None
    figures = [each.pop("rows") for each in meta["plan"]]
    assert meta.pop("rows_read") == {"estimate": sum(figures), "limit": 50_000_000}
    assert meta == {
        "domain": "lighting",
        "metrics": [
            {
                "name": name,
                "unit": unit,
                "kind": "gauge",
                "aggregates": [{"name": "avg", "unit": unit, "combine": "rows"}],
            }
            for name, unit in (("power_w", "W"), ("voltage_v", "V"))
        ],
        "window": "1h",
        "tz": "UTC",
        "start": "2026-11-20T12:00:00+00:00",
        "end": "2026-11-20T14:00:00+00:00",
        "by": "none",
        "fill": "none",
        "source": "lighting_1h",
        "plan": [{"relation": "lighting_1h", "spans": [["2026-11-20T12:00:00+00:00", "2026-11-20T14:00:00+00:00"]]}],
    }
    assert {row["metric"] for row in answer["data"]} == {"power_w"}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("day", "start", "end", "hours"),
    [
        ("2025-10-26", "2025-10-25T22:00:00Z", "2025-10-26T23:00:00Z", 25),
        ("2026-03-29", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", 23),
        ("2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", 25),
        ("2027-03-28", "2027-03-27T23:00:00Z", "2027-03-28T22:00:00Z", 23),
    ],
)
async def test_series_counts_every_hour_of_a_day_on_which_the_clocks_change(
    client: httpx.AsyncClient, city: City, day: str, start: str, end: str, hours: int
) -> None:
    first = datetime.fromisoformat(start)
    minutes = range(-60, (hours + 1) * 60, 20)
    await city.add(Row(first + timedelta(minutes=minute), city.devices[0], {"power_w": 1.0}) for minute in minutes)
    edges = {"start": first - timedelta(hours=1), "end": first + timedelta(hours=hours + 1)}
    around = {"tz": "Europe/Paris"} | {name: edge.isoformat() for name, edge in edges.items()}
    days = (await ask(client, window="1d", agg="count", **around))["data"]
    assert [row["count"] for row in days] == [3, hours * 3, 3]
    assert days[1]["bucket"].startswith(f"{day}T00:00:00")
    hourly = (await ask(client, agg="count", start=start, end=end, tz="Europe/Paris"))["data"]
    assert len(hourly) == hours
    assert {row["count"] for row in hourly} == {3}
    assert len({row["bucket"] for row in hourly}) == hours
    if hours == 25:
        repeated = [row["bucket"] for row in hourly if "T02:00:00" in row["bucket"]]
        assert repeated == [f"{day}T02:00:00+02:00", f"{day}T02:00:00+01:00"]


@pytest.mark.asyncio
async def test_series_without_rows_is_empty(client: httpx.AsyncClient, city: City) -> None:
    assert (await ask(client))["data"] == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("given", "parameter", "part", "allowed"),
    [
        ({"metric": "power"}, "metric", "no such metric", "power_w"),
        ({"metric": []}, "metric", "at least one", "power_w"),
        ({"agg": "mean"}, "agg", "no aggregate", "avg"),
        ({"agg": "max", "metric": "lamp_on"}, "agg", "is a state", "last"),
        ({"window": "7m"}, "window", "divides a day", "15m"),
        ({"window": "soon"}, "window", "neither", "15m"),
        ({"start": "yesterday"}, "start", "no time", "-24h"),
        ({"start": "2026-11-20T12:00:00"}, "start", "offset", "now"),
        ({"end": "2026-11-20T12:00:00Z"}, "end", "later than start", "now"),
        ({"tz": "Paris"}, "tz", "IANA", "Europe/Paris"),
        ({"by": "street"}, "by", "no way to group", "zone"),
        ({"device": "lamp-9"}, "device", "no such device", "the ids that /v1/devices lists"),
        ({"zone": "East"}, "zone", "no device in that zone", "North"),
        ({"fill": "magic"}, "fill", "no way to fill", "none"),
        ({"metrics": "power_w"}, "metrics", "no such parameter", "metric"),
        ({"window": ["1h", "1d"]}, "window", "only once", "one value"),
        ({"explain": "perhaps"}, "explain", "boolean", None),
    ],
)
async def test_series_refusal_names_parameter_given_and_allowed(
    client: httpx.AsyncClient, city: City, given: dict[str, Any], parameter: str, part: str, allowed: str | None
) -> None:
    problem = await refused(client, **given)
    assert problem["parameter"] == parameter
    assert part in problem["detail"]
    assert problem["status"] == 422
    assert problem["type"] == "urn:telemetry:problem:invalid-parameter"
    if allowed is not None:
        assert allowed in problem["allowed"]
    value = given[parameter]
    if isinstance(value, str):
        assert problem["given"] == value


@pytest.mark.asyncio
async def test_series_that_is_too_large_is_refused_with_its_size(client: httpx.AsyncClient, city: City) -> None:
    by_device = {"window": "1m", "by": "device", "start": "2026-01-01T00:00:00Z", "end": "2026-07-01T00:00:00Z"}
    problem = await refused(client, **by_device, fill="null")
    assert problem["parameter"] == "window"
    assert "1,042,560 values (260,640 buckets x 4 series)" in problem["detail"]
    assert "500,000" in problem["detail"]
    century = await refused(client, window="1m", start="1971-01-01T00:00:00Z", end="2199-01-01T00:00:00Z")
    assert "at least 119," in century["detail"]


@pytest.mark.asyncio
async def test_series_of_an_unknown_domain_lists_the_domains(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/water/series", params={"metric": "power_w"})
    assert answer.status_code == 404
    assert answer.json()["allowed"] == ["energy", "lighting", "parking", "waste"]
