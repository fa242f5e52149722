"""What nobody sends by accident: refused with the parameter's name, never an error of ours."""

from __future__ import annotations

import base64
import json
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI


def cursor(place: Any) -> str:
    """A cursor that somebody made up."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "path",
    [
        "/v1/lighting/series?metric=power_w&zone=%00",
        "/v1/lighting/readings?device=%00",
        "/v1/lighting/latest?zone=%00",
        "/v1/devices?zone=%00",
        "/v1/quarantine?device=%00",
        f"/v1/quarantine?cursor={cursor([10**30, 1])}",
        f"/v1/lighting/readings?cursor={cursor([1, 1, 10**30, 1])}",
        f"/v1/lighting/readings?cursor={cursor([1, 1, 1, 2**31])}",
        f"/v1/devices?cursor={cursor([chr(0)])}",
        f"/v1/devices?cursor={cursor([chr(0xD800)])}",
    ],
)
async def test_hostile_parameter_is_refused_by_name(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert f"{answer.json()['parameter']}=" in path


@pytest.mark.asyncio
@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("parameter", ["percentile", "min_coverage"])
async def test_number_that_json_has_not_is_refused_in_json(
    client: httpx.AsyncClient, parameter: str, number: str
) -> None:
    answer = await client.get("/v1/lighting/series", params={"metric": "power_w", parameter: number})
    assert answer.status_code == 422, answer.text
    assert strict(answer.content)["given"] == number
    assert strict(answer.content)["parameter"].startswith(parameter)


@pytest.mark.asyncio
async def test_number_that_json_has_not_is_refused_in_a_body(client: httpx.AsyncClient) -> None:
    json_body = {"content-type": "application/json"}
    answer = await client.put("/v1/devices/d", content='{"domain": NaN}', headers=json_body)
    assert answer.status_code == 422, answer.text
    assert "domain" in strict(answer.content)["parameter"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "path", ["lighting/series?metric=power_w", "lighting/readings", "lighting/latest", "lighting/changes", "ledger"]
)
async def test_empty_time_zone_is_refused(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"/v1/{path}{'&' if '?' in path else '?'}tz=")
    assert (answer.status_code, answer.json()["parameter"]) == (422, "tz"), answer.text


@pytest.mark.asyncio
async def test_what_is_neither_true_nor_false_is_told_what_is(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/lighting/series?metric=power_w&explain=maybe")
    assert (answer.status_code, answer.json()["allowed"]) == (422, ["true", "false"]), answer.text


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "parameter", "allowed"),
    [
        ("quarantine/abc", "number", ["a whole number"]),
        ("quarantine/99999999999999999999999", "number", ["at most 9223372036854775807"]),
        ("quarantine/0", "number", ["at least 1"]),
        ("devices?limit=x", "limit", ["a whole number"]),
        ("devices?min_clock_skew=x", "min_clock_skew", ["a number"]),
        ("devices?min_clock_skew=nan", "min_clock_skew", ["a finite number"]),
    ],
)
async def test_what_is_no_number_is_told_what_is(
    client: httpx.AsyncClient, path: str, parameter: str, allowed: list[str]
) -> None:
    answer = await client.get(f"/v1/{path}")
    assert (answer.status_code, answer.json()["parameter"]) == (422, parameter), answer.text
    assert answer.json()["allowed"] == allowed


@pytest.mark.asyncio
async def test_member_that_a_body_does_not_have_is_told_which_it_may(client: httpx.AsyncClient) -> None:
    answer = await client.put("/v1/devices/xy", json={"domain": "wast", "nam": 1})
    problem = answer.json()
    assert (answer.status_code, problem["parameter"], problem["given"]) == (422, "nam", 1), answer.text
    assert problem["allowed"] == ["domain", "name", "zone", "latitude", "longitude", "interval_s"]
    answer = await client.put("/v1/devices/xy", json={"domain": "waste", "name": "x" * 201})
    assert answer.json()["allowed"] == ["at most 200 characters"]
    answer = await client.put("/v1/devices/xy", json={"domain": "waste", "name": 1})
    assert answer.json()["allowed"] == ["text"]
    wrong: list[Any] = [[], "text", 3]
    for body in wrong:
        answer = await client.put("/v1/devices/xy", json=body)
        assert (answer.status_code, answer.json()["allowed"]) == (422, ["a JSON object"]), answer.text


@pytest.mark.asyncio
async def test_answer_that_is_too_large_is_refused_with_its_figure(client: httpx.AsyncClient) -> None:
    asked = {"metric": "power_w", "window": "1s", "start": "2000-01-01T00:00:00Z", "end": "2001-01-01T00:00:00Z"}
    problem = (await client.get("/v1/lighting/series", params=asked)).json()
    assert (problem["status"], problem["type"]) == (422, "urn:telemetry:problem:too-large")
    assert (problem["parameter"], problem["estimate"]) == ("window", 366 * 24 * 3600)
    assert problem["estimate"] > problem["limit"] > 0


def strict(answer: bytes) -> dict[str, Any]:
    """What any reader of JSON understands of it."""

    def refuse(number: str) -> None:
        raise AssertionError(f"{number} is no JSON")

    found: dict[str, Any] = json.loads(answer, parse_constant=refuse)
    return found


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["a\\u0000b", "\\ud800"])
async def test_hostile_name_of_a_device_is_refused(client: httpx.AsyncClient, name: str) -> None:
    body = f'{{"domain": "lighting", "name": "{name}"}}'
    answer = await client.put("/v1/devices/d", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert "name" in answer.text


@pytest.mark.asyncio
async def test_widest_question_is_answered_and_one_that_the_database_cannot_do_is_a_problem(
    app: FastAPI, client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    gauges = ["power_w", "voltage_v", "current_a", "power_factor"]
    asked: dict[str, Any] = {"metric": gauges, "percentile": [number / 10 for number in range(100)]}
    answer = await client.get("/v1/lighting/series", params={**asked, "window": "15m", "fill": "null", "start": "-1h"})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"][0]) == 100 + 5

    async def wide() -> None:
        await connection.execute(f"SELECT {', '.join('1' * 1665)}")

    app.add_api_route("/wide", wide)
    answer = await client.get("/wide")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:telemetry:problem:too-large")
    assert "1664" in answer.json()["detail"]
