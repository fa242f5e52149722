"""`/docs` and `/openapi.json`: complete, runnable, and without anything from elsewhere."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from telemetry.api.docs import TAGS
from telemetry.api.documentation import QUESTIONS
from tests.integration.query.rows import City

ROUTES = {
    "/livez",
    "/readyz",
    "/version",
    "/metrics",
    "/v1/domains",
    "/v1/devices",
    "/v1/devices/{device_id}",
    "/v1/devices/{device_id}/meter-swaps",
    "/v1/devices/{device_id}/meter-swaps/{counter}/{time}",
    "/v1/quarantine",
    "/v1/quarantine/summary",
    "/v1/quarantine/{number}",
    "/v1/ledger",
    "/v1/{domain}/series",
    "/v1/{domain}/changes",
    "/v1/{domain}/readings",
    "/v1/{domain}/latest",
}


async def operations(client: httpx.AsyncClient) -> list[tuple[str, str, dict[str, Any]]]:
    paths = (await client.get("/openapi.json")).json()["paths"]
    return [(path, method, each) for path, methods in paths.items() for method, each in methods.items()]


@pytest.mark.asyncio
async def test_every_route_is_described(client: httpx.AsyncClient) -> None:
    found = await operations(client)
    assert {path for path, _, _ in found} == ROUTES
    for path, method, operation in found:
        assert operation["summary"], path
        assert operation["tags"][0] in TAGS, path
        assert operation["description"], path
        assert all(each.get("description") for each in operation.get("parameters", [])), path
        for status, answer in operation["responses"].items():
            assert "HTTPValidationError" not in str(answer), (path, method, status)
            examples = [content.get("example") for content in answer.get("content", {}).values()]
            assert all(examples), (path, method, status)
            assert examples or status == "204", (path, method, status)


@pytest.mark.asyncio
async def test_every_question_of_the_page_has_an_answer(client: httpx.AsyncClient, city: City) -> None:
    requests = [each["request"] for _, _, operation in await operations(client) for each in operation[QUESTIONS]]
    assert len(requests) >= 12
    for request in requests:
        answer = await client.get(request)
        assert answer.status_code == 200, (request, answer.text)


@pytest.mark.asyncio
async def test_page_loads_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    answer = await client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert re.findall(r"""(?:https?:)?//[a-z0-9.-]+\.[a-z]+|<script src|<link rel="stylesheet""", answer.text) == []
    assert 'fetch("openapi.json")' in answer.text


@pytest.mark.asyncio
async def test_example_of_the_body_is_accepted(client: httpx.AsyncClient) -> None:
    schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    (example,) = schemas["DeviceBody"]["examples"]
    assert (await client.put("/v1/devices/lamp-12", json=example)).status_code == 201
