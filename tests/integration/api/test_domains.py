"""`/v1/domains`: what can be asked for."""

from __future__ import annotations

import httpx
import pytest

from tests.integration.query.rows import City


@pytest.mark.asyncio
async def test_each_counter_tells_the_glitch_that_it_tolerates(client: httpx.AsyncClient, city: City) -> None:
    domains = (await client.get("/v1/domains")).json()["data"]
    told = {(each["kind"], each["glitch"]) for domain in domains for each in domain["metrics"]}
    assert told == {("counter", 0.05), ("gauge", None), ("state", None)}
