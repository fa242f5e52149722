"""A route that reads the given parameters alone finds what FastAPI finds by reading all."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query
from fastapi.routing import APIRoute

from telemetry.api import problems
from telemetry.api.parameters import Devices, Metrics, Start, StrictRoute, Tz

GIVEN = {
    "": 422,
    "share=0.5": 200,
    "share=0.5&metric=power_w": 200,
    "share=0.5&metric=a&metric=b&device=&start=-7d&tz=UTC&full=true&form=csv": 200,
    "share=0.5&full=no&least=7": 200,
    "share=0.5&full=perhaps": 422,
    "share=half": 422,
    "metric=a": 422,
    "share=0.5&least=much&form=csv": 422,
}


async def _form(form: str | None = None) -> str:
    return f"form {form}"


async def _asked(
    share: float,
    form: Annotated[str, Depends(_form)],
    metric: Metrics = (),
    device: Devices = (),
    start: Start = "-24h",
    tz: Tz = None,
    least: Annotated[float | None, Query()] = None,
    full: Annotated[bool, Query()] = False,
) -> dict[str, Any]:
    return {**locals()}


def app(route: type[APIRoute]) -> FastAPI:
    router = APIRouter(route_class=route)
    router.add_api_route("/asked", _asked)
    found = FastAPI()
    problems.install(found)
    found.include_router(router)
    return found


@pytest.mark.asyncio
@pytest.mark.parametrize("given", GIVEN)
async def test_given_parameters_and_defaults_are_those_that_fastapi_finds(given: str) -> None:
    answers = []
    for route in (StrictRoute, APIRoute):
        transport = httpx.ASGITransport(app=app(route))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            # The second time, the route is there already.
            for _ in range(2):
                answer = await client.get(f"/asked?{given}")
                answers.append((answer.status_code, answer.json()))
    assert answers == [answers[0]] * 4
    assert answers[0][0] == GIVEN[given]
