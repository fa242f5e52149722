"""Whatever is asked, others are answered meanwhile: an answer is made in portions, and after each they have a turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pyarrow as pa
import pytest
from fastapi import FastAPI

from telemetry.api import bodies, series
from telemetry.query import sql, turns
from telemetry.query.series import Series
from tests.integration.api.filled import fill
from tests.integration.query.rows import City

CELLS = 100
NUMBERS = ("power_w", "voltage_v", "energy_kwh")
QUESTIONS: dict[str, dict[str, Any]] = {
    # Every way to an answer: as the database sent it, with states, filled, of all values, of steps.
    "rows": {"metric": NUMBERS, "agg": ["avg", "min", "max", "sum"], "window": "15m"},
    "states": {"metric": ["lamp_on", "fault"], "agg": ["last", "count"], "window": "15m"},
    "filled": {"metric": NUMBERS, "agg": ["avg", "max"], "window": "15m", "fill": "locf", "max_gap": "6h"},
    "spread": {"metric": ["power_w", "voltage_v"], "agg": ["p50", "p99"], "window": "15m"},
    "steps": {"metric": ["energy_kwh", "lamp_on", "fault"], "window": "5m"},
}
FORMS = ("json", "csv", "arrow", "parquet")


class Spy:
    """Notes how many rows each portion has, and in which turn of the event loop it was made."""

    def __init__(self) -> None:
        self.turn = 0
        self.made: list[tuple[int, int]] = []

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[None]:
        """Counts the turns."""

        async def count() -> None:
            while True:
                self.turn += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(count())
        try:
            yield
        finally:
            task.cancel()

    def encoding(self, encode: Callable[[Series], Iterator[Any]]) -> Callable[[Series], Iterator[Any]]:
        """The same encoder, watched."""

        def watched(found: Series) -> Iterator[Any]:
            for each in encode(found):
                self.made.append((self.turn, rows_in(each)))
                yield each

        return watched


def rows_in(portion: Any) -> int:
    """Rows of a batch, or of texts of which each has one or more lines or objects."""
    if isinstance(portion, pa.RecordBatch):
        return int(portion.num_rows)
    return sum(text.count('"bucket":') or text.count("\r\n") + 1 for text in portion)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    """Small portions, watched."""
    found, written = Spy(), series._written
    monkeypatch.setattr(turns, "CELLS", CELLS)

    def watched(*asked: Any) -> Any:
        body, encode = written(*asked)
        return body, found.encoding(encode)

    monkeypatch.setattr(series, "_written", watched)
    return found


@pytest.mark.asyncio
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", QUESTIONS)
async def test_largest_answer_is_made_in_bounded_portions_and_health_is_told_in_between(
    client: httpx.AsyncClient, app: FastAPI, city: City, spy: Spy, name: str, form: str
) -> None:
    await fill(city)
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    asked = {"start": (end - timedelta(days=2)).isoformat(), "end": end.isoformat(), "by": "device", "format": form}
    asked |= QUESTIONS[name]
    limit = await allow_no_more_than(client, app, asked)
    spy.made.clear()
    asking = asyncio.create_task(client.get("/v1/lighting/series", params=asked))
    healthy = 0
    async with spy.counting():
        while not asking.done():
            assert (await client.get("/livez")).status_code == 200
            healthy += 1
            # Nothing that /livez does waits for anything.
            await asyncio.sleep(0)
    assert (await asking).status_code == 200
    assert 0 < max(rows for _, rows in spy.made) <= CELLS
    assert len(spy.made) > 1
    assert len({turn for turn, _ in spy.made}) == len(spy.made), "two portions were made in one turn"
    assert healthy > 1
    assert limit > CELLS


async def allow_no_more_than(client: httpx.AsyncClient, app: FastAPI, asked: dict[str, Any]) -> int:
    """Makes it the largest question that is allowed: refusals name how many values it needs. Returns the limit."""
    service, limit = app.state.service, 1
    while True:
        limits = {"max_values": limit, "max_streamed_values": limit}
        api = service.settings.api.model_copy(update=limits)
        service.settings = service.settings.model_copy(update={"api": api})
        answer = await client.get("/v1/lighting/series", params={**asked, "format": "json"})
        if answer.status_code == 200:
            return limit
        refusal = answer.json()
        needed = int(refusal["estimate"])
        assert needed > limit == refusal["limit"]
        assert f"{needed:,} values" in refusal["detail"]
        assert f"and {limit:,} are allowed" in refusal["detail"]
        limit = needed


@pytest.mark.asyncio
@pytest.mark.parametrize("stretches", [0, 6], ids=["uneven", "even"])
@pytest.mark.parametrize("name", QUESTIONS)
async def test_answer_is_the_same_whatever_the_portions_are(
    client: httpx.AsyncClient, city: City, monkeypatch: pytest.MonkeyPatch, name: str, stretches: int
) -> None:
    await fill(city)
    end = datetime.now(UTC) - timedelta(hours=1)
    asked = {"start": (end - timedelta(hours=29)).isoformat(), "end": end.isoformat(), "by": "device"}
    asked |= QUESTIONS[name] | {"window": "30m"}
    whole = (await client.get("/v1/lighting/series", params=asked)).json()["data"]
    monkeypatch.setattr(turns, "CELLS", 7)
    # Many edges travel in other ways, and many rows not as columns.
    monkeypatch.setattr(sql, "LONG", 2)
    monkeypatch.setattr(sql, "MANY", 2)
    monkeypatch.setattr(sql, "_FEW", stretches)
    monkeypatch.setattr("telemetry.query.answering.ONE_ROW", 0)
    small = (await client.get("/v1/lighting/series", params=asked)).json()["data"]
    assert len(whole) > 50
    assert small == whole


@pytest.mark.asyncio
async def test_pages_are_made_in_portions(
    client: httpx.AsyncClient, city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(city)
    pages = {
        path: (await client.get(path)).json()["data"]
        for path in ("/v1/devices", "/v1/lighting/readings?start=-3d", "/v1/lighting/latest")
    }
    monkeypatch.setattr(bodies, "ROWS", 1)
    monkeypatch.setattr(bodies, "SMALL", 0)
    monkeypatch.setattr(turns, "CELLS", 1)
    monkeypatch.setattr("telemetry.query.latest.BLOCK", 1)
    for path, rows in pages.items():
        answer = await client.get(path, headers={"accept-encoding": "identity"})
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert [row["device_id"] for row in answer.json()["data"]] == [row["device_id"] for row in rows]
        zipped = await client.get(path, headers={"accept-encoding": "gzip"})
        assert [row["device_id"] for row in zipped.json()["data"]] == [row["device_id"] for row in rows]


@pytest.mark.asyncio
async def test_answer_that_is_too_wide_to_be_read_at_once_is_streamed(
    client: httpx.AsyncClient, app: FastAPI, city: City
) -> None:
    await fill(city)
    end = datetime.now(UTC)
    edges = {"start": (end - timedelta(days=2)).isoformat(), "end": end.isoformat()}
    asked = {**edges, "by": "device", **QUESTIONS["rows"], "window": "1h"}
    whole = (await client.get("/v1/lighting/series", params=asked)).json()["data"]
    service = app.state.service
    api = service.settings.api.model_copy(update={"max_values": 100, "max_streamed_values": 100_000})
    service.settings = service.settings.model_copy(update={"api": api})
    answer = await client.get("/v1/lighting/series", params=asked)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"]) == len(whole) > 100 // 12
    # What cannot be streamed is held to the other limit.
    refused = await client.get("/v1/lighting/series", params={**asked, "fill": "null"})
    assert refused.status_code == 422
    assert "and 100 are allowed" in refused.json()["detail"]
