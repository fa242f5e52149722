"""What nobody sends by accident: refused with the parameter's name, never an error of ours."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest


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
@pytest.mark.parametrize("name", ["a\\u0000b", "\\ud800"])
async def test_hostile_name_of_a_device_is_refused(client: httpx.AsyncClient, name: str) -> None:
    body = f'{{"domain": "lighting", "name": "{name}"}}'
    answer = await client.put("/v1/devices/d", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert "name" in answer.text
