"""Large answers of the server as it runs, and the examples of the guide as people run them."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import duckdb
import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from telemetry.api import formats
from telemetry.api.negotiation import Format
from telemetry.demo.mosquitto import free_port
from telemetry.query import answering
from telemetry.settings import Settings
from telemetry.store.devices import Device
from tests.integration.api.test_clients import PATIENCE_S, all_idle
from tests.integration.api.test_formats import NOON
from tests.integration.query.rows import City, Row
from tests.support.serving import served, serving

GUIDE = (Path(__file__).parents[3] / "docs" / "exports.md").read_text()
ADDRESS = "http://localhost:8000"
EXAMPLES = re.findall(r"```(sh|python)\n(.*?)```", GUIDE, re.DOTALL)
LARGE: dict[str, Any] = {
    "metric": "power_w",
    "by": "device",
    "window": "1m",
    "start": "2026-11-01T12:00:00Z",
    "end": "2026-11-01T15:00:00Z",
}


@pytest_asyncio.fixture
async def lamps(city: City) -> City:
    """A reading of each lamp in each of 180 minutes."""
    await city.add(
        Row(NOON + timedelta(minutes=minute), device, {"power_w": float(minute), "fault": "none", "lamp_on": True})
        for device in city.devices
        for minute in range(180)
    )
    return city


@pytest_asyncio.fixture
async def living(city: City) -> City:
    """A reading of each lamp in each of the minutes of the last 25 hours: what a guide asks about must be there."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    minutes = [now - timedelta(minutes=back) for back in range(25 * 60)]
    await city.add(
        Row(minute, device, {"power_w": float(minute.minute), "fault": "none", "lamp_on": True})
        for device in city.devices
        for minute in minutes
    )
    return city


@pytest_asyncio.fixture
async def address(app: FastAPI, lamps: City, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The address of a server in this process that streams whatever has more than ten rows."""
    monkeypatch.setattr(formats, "WHOLE", 10)
    monkeypatch.setattr(answering, "PART", 50)
    async with serving(app) as where:
        yield where


@pytest.mark.asyncio
@pytest.mark.parametrize("form", list(Format))
async def test_stream_that_breaks_off_does_not_look_complete(
    address: str, app: FastAPI, monkeypatch: pytest.MonkeyPatch, form: Format
) -> None:
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        assert (await client.get("/v1/lighting/series", params={**LARGE, "format": form})).status_code == 200
        fetch = answering.fetch
        left = [2]

        async def broken(rest: Any, size: int) -> list[asyncpg.Record]:
            left[0] -= 1
            if left[0] < 0:
                raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
            return await fetch(rest, size)

        monkeypatch.setattr(answering, "fetch", broken)
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            await client.get("/v1/lighting/series", params={**LARGE, "format": form})
        monkeypatch.setattr(answering, "fetch", fetch)
    await all_idle(app)


@pytest.mark.asyncio
@pytest.mark.parametrize("agg", ["time_avg", "p90"])
async def test_large_answer_that_is_merged_from_several_statements_is_streamed_beyond_what_fits_into_memory(
    address: str, app: FastAPI, agg: str
) -> None:
    """Beyond `api.max_values`; with `fill` it would have to be in memory."""
    asked = {**LARGE, "agg": agg, "format": "ndjson"}
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        wanted = (await client.get("/v1/lighting/series", params=asked)).text
        limit(app, api={"max_values": 100})
        answer = await client.get("/v1/lighting/series", params=asked)
        refused = await client.get("/v1/lighting/series", params={**asked, "fill": "null"})
    assert (answer.status_code, "content-length" in answer.headers) == (200, False)
    assert answer.text == wanted
    assert len(answer.text.splitlines()) > 500
    assert (refused.status_code, refused.json()["limit"]) == (422, 100)


@pytest.mark.asyncio
async def test_client_that_leaves_a_stream_leaves_no_question_behind(
    address: str, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def slow(rest: Any, size: int) -> list[asyncpg.Record]:
        reached.set()
        await asyncio.sleep(3600)
        raise AssertionError

    monkeypatch.setattr(answering, "fetch", slow)
    asked = {**LARGE, "format": "arrow"}
    async with (
        httpx.AsyncClient(base_url=address, timeout=60) as client,
        client.stream("GET", "/v1/lighting/series", params=asked),
    ):
        await asyncio.wait_for(reached.wait(), PATIENCE_S)
        assert app.state.service.pool.get_idle_size() == 0
    await all_idle(app)


@pytest.mark.asyncio
async def test_client_that_takes_nothing_is_left(address: str, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "PATIENCE_S", 0.5)
    first: list[asyncpg.Record] = []
    fetch = answering.fetch

    async def endless(rest: Any, size: int) -> list[asyncpg.Record]:
        first[:] = first or await fetch(rest, size)
        return first

    monkeypatch.setattr(answering, "fetch", endless)
    port = int(address.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    query = str(httpx.QueryParams({**LARGE, "format": "csv"}))
    writer.write(f"GET /v1/lighting/series?{query} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE_S):
        while not first:
            await asyncio.sleep(0.02)
    await all_idle(app)
    writer.transport.abort()


@pytest.mark.asyncio
async def test_client_that_takes_a_little_at_a_time_is_left_in_the_end(
    address: str, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(app, api={"stream_timeout": timedelta(seconds=1)})
    monkeypatch.setattr(answering, "fetch", endless(answering.fetch))
    async with httpx.AsyncClient(base_url=address, timeout=60) as client, asyncio.timeout(PATIENCE_S):
        async with client.stream("GET", "/v1/lighting/series", params={**LARGE, "format": "csv"}) as answer:
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
                await take_slowly(answer)
        await all_idle(app)


@pytest.mark.asyncio
async def test_streams_leave_half_of_the_connections_to_others(
    address: str, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(app, database={"pool_size": 3})
    fetch = answering.fetch
    monkeypatch.setattr(answering, "fetch", endless(fetch))
    async with httpx.AsyncClient(base_url=address, timeout=60) as client, asyncio.timeout(PATIENCE_S):
        async with client.stream("GET", "/v1/lighting/series", params=LARGE) as answer:
            assert answer.status_code == 200
            refused = await client.get("/v1/lighting/series", params=LARGE)
            assert (refused.status_code, refused.json()["type"]) == (503, "urn:telemetry:problem:too-many-streams")
            assert int(refused.headers["retry-after"]) > 0
            assert (
                await client.get("/v1/lighting/series", params={**LARGE, "by": "none", "window": "1h"})
            ).status_code == 200
        monkeypatch.setattr(answering, "fetch", fetch)
        while (await client.get("/v1/lighting/series", params=LARGE)).status_code != 200:
            await asyncio.sleep(0.05)


async def take_slowly(answer: httpx.Response) -> None:
    """Never stops for as long as would be noticed."""
    async for _ in answer.aiter_raw(1000):
        await asyncio.sleep(0.01)


def limit(app: FastAPI, **sections: dict[str, Any]) -> None:
    """Changes settings of the running service."""
    settings = app.state.service.settings
    updated = {name: getattr(settings, name).model_copy(update=update) for name, update in sections.items()}
    app.state.service.settings = settings.model_copy(update=updated)


def endless(fetch: Any) -> Any:
    """Reads the first part again and again, so that an answer has no end."""
    first: list[asyncpg.Record] = []

    async def again(rest: Any, size: int) -> list[asyncpg.Record]:
        first[:] = first or await fetch(rest, size)
        await asyncio.sleep(0.01)  # the client runs in this process, too
        return first

    return again


def test_guide_has_examples() -> None:
    assert len(EXAMPLES) >= 6


@pytest.mark.asyncio
async def test_examples_of_the_guide_run(settings: Settings, living: City, tmp_path: Path) -> None:
    begun = datetime.now(UTC)
    async with served(settings, port := free_port()):
        for language, text in EXAMPLES:
            program = text.replace(ADDRESS, f"http://127.0.0.1:{port}")
            command = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-W", "error", "-c"]
            run = await asyncio.to_thread(
                subprocess.run,
                [*command, program.replace("python ", f"{sys.executable} ") if language == "sh" else program],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
            assert run.returncode == 0, (text, run.stderr)
            assert "lamp-3" in run.stdout or "format=excel" in text, (text, run.stdout)
    assert_french(tmp_path / "power.csv", begun - timedelta(hours=22))


def assert_french(file: Path, within: datetime) -> None:
    """What a spreadsheet set to French must find, read by a program that knows nothing of ours.

    Args:
        within: an instant whose hour is wholly in the file.
    """
    assert file.read_bytes().startswith(b"\xef\xbb\xbfbucket;utc_offset;device_id;metric;avg;samples;coverage\r\n")
    with duckdb.connect() as database:
        relation = database.sql(
            f"SELECT bucket, utc_offset, device_id, avg FROM read_csv('{file}', delim = ';', decimal_separator = ',')"
            " WHERE device_id = 'lamp-1'"
        )
        assert [str(each) for each in relation.types] == ["TIMESTAMP", "VARCHAR", "VARCHAR", "DOUBLE"]
        hour = within.astimezone(ZoneInfo("Europe/Paris")).replace(minute=0, second=0, microsecond=0)
        assert (hour.replace(tzinfo=None), hour.isoformat()[-6:], "lamp-1", 29.5) in relation.fetchall()


@pytest.mark.asyncio
@pytest.mark.parametrize("route", ["series", "readings"])
async def test_spreadsheet_gets_local_times_commas_and_no_formulas(
    client: httpx.AsyncClient, connection: asyncpg.Connection, route: str
) -> None:
    city = City(connection, "lighting", [Device("lamp-1", "lighting", zone="=1+1;é")])
    await city.register()
    await city.add([Row(NOON + timedelta(milliseconds=250), city.devices[0], {"voltage_v": 230.5})])
    asked: dict[str, Any] = {**LARGE, "metric": "voltage_v", "format": "excel", "by": "zone", "window": "1h"}
    if route == "readings":
        del asked["by"], asked["window"]
    answer = await client.get(f"/v1/lighting/{route}", params=asked)
    lines = answer.content.decode("utf-8-sig").split("\r\n")
    assert (
        lines
        == {
            "series": [
                "bucket;utc_offset;zone;metric;avg;samples;coverage",
                '2026-11-01 13:00:00;+01:00;"\'=1+1;é";voltage_v;230,5;1;',
                "",
            ],
            "readings": [
                "time;utc_offset;received_at;device_id;voltage_v;attributes",
                "2026-11-01 13:00:00,250000;+01:00;2026-11-01 13:00:00,250000;lamp-1;230,5;",
                "",
            ],
        }[route]
    )
