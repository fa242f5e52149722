"""SQL in every text parameter, and ranges that nobody means: refused or answered, and the database is what it was."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest

from tests.integration.api.filled import fill
from tests.integration.query.rows import City

CORPUS = (
    "'",
    '"',
    "' OR '1'='1",
    "'; DROP TABLE devices; --",
    '"; DROP TABLE devices; --',
    'power_w"; DELETE FROM lighting_readings; --',
    "lamp-1') OR true --",
    "1; SELECT pg_sleep(20)",
    "1 UNION SELECT value FROM telemetry_meta",
    "$1::text); COPY devices TO PROGRAM 'true'; --",
    "$$;SELECT 1;$$",
    "%s%d%(x)s{0}",
    "\\'; DROP TABLE devices; --",
    "/**/",
    "ʼ OR 1=1",
)
RANGES = {
    "reversed": ("2026-11-20T00:00:00Z", "2026-11-19T00:00:00Z"),
    "empty": ("2026-11-20T00:00:00Z", "2026-11-20T00:00:00Z"),
    "a thousand years": ("1026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
    "a thousand years to come": ("2026-01-01T00:00:00Z", "3026-01-01T00:00:00Z"),
    "as far back as can be said": ("-999999999w", "now"),
}
STATE = """
SELECT (SELECT count(*) FROM devices), (SELECT count(*) FROM lighting_readings), (SELECT count(*) FROM late_ranges),
       (SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'v', 'p'))
"""


async def operations(client: httpx.AsyncClient) -> list[tuple[str, dict[str, Any]]]:
    paths = (await client.get("/openapi.json")).json()["paths"]
    return [(path, methods["get"]) for path, methods in paths.items() if "get" in methods]


def is_text(parameter: dict[str, Any]) -> bool:
    schemas = [parameter["schema"], *parameter["schema"].get("anyOf", ())]
    return any("string" in (each.get("type"), each.get("items", {}).get("type")) for each in schemas)


@pytest.mark.asyncio
async def test_sql_in_a_text_parameter_does_nothing(
    client: httpx.AsyncClient, connection: asyncpg.Connection, city: City
) -> None:
    await fill(city)
    before = await connection.fetchrow(STATE)
    asked = set()
    for path, operation in await operations(client):
        for parameter in filter(is_text, operation.get("parameters", [])):
            asked.add(parameter["name"])
            for text in CORPUS:
                values = {"domain": "lighting", "device_id": "lamp-1", "number": "1", "counter": "energy_kwh"}
                values["time"] = "2026-11-20T00:00:00Z"
                query = {"metric": "power_w"} if path.endswith("/series") else {}
                (values if parameter["in"] == "path" else query)[parameter["name"]] = text
                url = path.format(**{name: quote(value, safe="") for name, value in values.items()})
                answer = await client.get(url, params=query)
                # A filter without a match is an answer, too: nothing may be found that was not asked for.
                found_nothing = answer.status_code == 200 and answer.json()["data"] == []
                assert found_nothing or answer.status_code in (404, 422), (path, parameter["name"], text, answer.text)
    assert asked >= {
        "metric",
        "agg",
        "start",
        "end",
        "window",
        "tz",
        "by",
        "device",
        "zone",
        "fill",
        "cursor",
        "domain",
    }
    assert await connection.fetchrow(STATE) == before


@pytest.mark.asyncio
@pytest.mark.parametrize("route", ["lighting/series?metric=power_w&window=1y&", "lighting/readings?", "ledger?"])
@pytest.mark.parametrize("name", RANGES)
async def test_range_that_makes_no_sense_is_refused(client: httpx.AsyncClient, route: str, name: str) -> None:
    start, end = RANGES[name]
    answer = await client.get(f"/v1/{route}start={start}&end={end}")
    assert answer.status_code == 422, answer.text
    assert answer.json()["parameter"] in ("start", "end")
    assert answer.json()["allowed"]


@pytest.mark.asyncio
@pytest.mark.parametrize("window", ["1s", "1m", "1d", "1y"])
async def test_longest_range_is_answered_or_refused_by_size(client: httpx.AsyncClient, city: City, window: str) -> None:
    await fill(city)
    asked = {"metric": "power_w", "start": "1970-01-01T00:00:00Z", "end": "2199-12-31T00:00:00Z", "window": window}
    answer = await client.get("/v1/lighting/series", params=asked)
    if window in ("1s", "1m"):
        assert (answer.status_code, answer.json()["parameter"]) == (422, "window")
    else:
        assert answer.status_code == 200, answer.text


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("asked", "parameter", "allowed"),
    [
        ({"metric": "power"}, "metric", "power_w"),
        ({"metric": "power_w", "tz": "Europe/Lutetia"}, "tz", "Europe/Paris"),
        ({"metric": "power_w", "agg": "increase"}, "agg", "avg"),
        ({"metric": "energy_kwh", "agg": "p50"}, "agg", "increase"),
        ({"metric": "fault", "agg": "avg"}, "agg", "share"),
        ({"metric": "power_w", "zone": "Nowhere"}, "zone", "North"),
    ],
)
async def test_unknown_name_is_refused_with_what_is_allowed(
    client: httpx.AsyncClient, city: City, asked: dict[str, str], parameter: str, allowed: str
) -> None:
    problem = (await client.get("/v1/lighting/series", params=asked)).json()
    assert (problem["status"], problem["parameter"]) == (422, parameter)
    assert allowed in problem["allowed"], problem
