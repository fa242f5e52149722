"""One answer in several forms: the same rows as JSON, as lines and as CSV, whole, streamed, compressed and kept."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from telemetry.api import formats
from telemetry.api.negotiation import Format
from telemetry.settings import Settings
from telemetry.upkeep.rounds import run_once
from tests.integration.query.rows import City, Row

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
CLOSED = {"start": "2026-11-01T12:00:00Z", "end": "2026-11-01T15:00:00Z", "tz": "UTC"}
MIXED: dict[str, Any] = {
    **CLOSED,
    "metric": ["power_w", "energy_kwh", "fault"],
    "by": "zone",
    "fill": "null",
    "coverage": "true",
}


async def fill(city: City, hours: int = 2) -> None:
    await city.add(
        Row(
            NOON + timedelta(minutes=15 * quarter),
            device,
            {"power_w": 0.1 * quarter, "energy_kwh": 1e-7 * quarter, "fault": "lamp" if quarter % 2 else "none"},
        )
        for device in city.devices
        for quarter in range(4 * hours)
    )


async def get(client: httpx.AsyncClient, headers: dict[str, str] | None = None, **parameters: Any) -> httpx.Response:
    asked = {"metric": "power_w", **CLOSED, **parameters}
    return await client.get("/v1/lighting/series", params=asked, headers=headers)


@pytest.mark.asyncio
@pytest.mark.parametrize("whole", [True, False])
async def test_every_form_has_the_same_rows(
    client: httpx.AsyncClient, city: City, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    await fill(city)
    if not whole:
        monkeypatch.setattr(formats, "WHOLE", 0)
    answers = {form: await get(client, **MIXED, format=form) for form in ("json", "ndjson", "csv")}
    rows = answers["json"].json()["data"]
    assert len(rows) == 3 * 3 * 3
    assert [json.loads(line) for line in answers["ndjson"].text.splitlines()] == rows
    assert answers["csv"].text.endswith("\r\n")
    lines = list(csv.DictReader(io.StringIO(answers["csv"].text, newline="")))
    assert [list(lines[0])] == [
        ["bucket", "zone", "metric", "avg", "increase", "share", "samples", "coverage", "quality", "filled"]
    ]
    assert lines == [
        {name: as_text(row.get(name)) for name in lines[0]} | {"filled": json.dumps(row["filled"])} for row in rows
    ]
    assert ("content-length" in answers["json"].headers) is whole


def as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.asyncio
async def test_numbers_keep_every_digit(client: httpx.AsyncClient, city: City) -> None:
    values = [0.1, 1 / 3, 1e-300, 9999.999999999998, 5e-324, 123.0, 0.0]
    await city.add(Row(NOON + timedelta(minutes=n), city.devices[0], {"power_w": v}) for n, v in enumerate(values))
    for fill_as in ("none", "null"):
        answer = await get(client, agg=["last", "count"], window="1m", fill=fill_as)
        assert [row["last"] for row in answer.json()["data"] if row["samples"]] == values


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/csv", "text/csv"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("application/json;q=0.1, text/csv", "text/csv"),
        ("*/*, application/json;q=0", "application/x-ndjson"),
        ("text/*;q=0.9, application/*;q=0.1", "text/csv"),
        ("application/*;q=0.9, application/json;q=0.2", "application/x-ndjson"),
        ("application/jsonl", "application/x-ndjson"),
        ("application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream"),
        ("image/png, application/vnd.apache.parquet;q=0.3", "application/vnd.apache.parquet"),
    ],
)
async def test_accept_chooses_the_form(client: httpx.AsyncClient, city: City, accept: str, media_type: str) -> None:
    answer = await get(client, {"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == media_type
    assert "Accept" in answer.headers["vary"]


@pytest.mark.asyncio
async def test_form_that_is_not_available_is_refused_with_those_that_are(client: httpx.AsyncClient, city: City) -> None:
    answer = await get(client, {"Accept": "image/png, text/csv;q=0"})
    assert answer.status_code == 406
    assert answer.json()["allowed"] == [
        "application/json",
        "application/x-ndjson",
        "text/csv",
        "application/vnd.apache.arrow.stream",
        "application/vnd.apache.parquet",
    ]
    named = await get(client, format="xlsx")
    assert (named.status_code, named.json()["allowed"]) == (422, list(Format))


@pytest.mark.asyncio
async def test_window_that_is_over_is_not_sent_twice(client: httpx.AsyncClient, city: City) -> None:
    await fill(city)
    first = await get(client)
    etag = first.headers["etag"]
    again = await get(client, {"If-None-Match": f'"x", {etag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert (await get(client, {"If-None-Match": etag}, agg="max")).status_code == 200
    for form in set(Format) - {Format.JSON}:
        other = await get(client, {"If-None-Match": etag}, format=form)
        assert (other.status_code, other.content != b"") == (200, True)
        kept = await get(client, {"If-None-Match": other.headers["etag"]}, format=form)
        assert (kept.status_code, kept.content) == (304, b"")
    await city.add([Row(NOON + timedelta(minutes=1), city.devices[0], {"power_w": 99.0})])
    changed = await get(client, {"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("start", "end", "cached", "tagged"),
    [
        ("-2d", "2026-11-20T00:00:00Z", "no-cache", False),
        ("-40d", "-30d", "no-cache", False),
        ("2026-11-01T12:00:00Z", "now", "no-cache", False),
        ("2026-11-01T12:00:00Z", "2150-01-01T00:00:00Z", "no-cache", False),
    ],
)
async def test_only_windows_that_are_over_and_stay_are_kept(
    client: httpx.AsyncClient, city: City, start: str, end: str, cached: str, tagged: bool
) -> None:
    if start == "-2d":
        end = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    answer = await get(client, start=start, end=end, window="1mo")
    assert (answer.headers["cache-control"], "etag" in answer.headers) == (cached, tagged)


@pytest.mark.asyncio
async def test_answer_is_kept_while_nothing_is_expected_to_change_it(
    client: httpx.AsyncClient, city: City, settings: Settings
) -> None:
    async def kept(**parameters: Any) -> bool:
        answer = await get(client, **{"by": "none", "end": "2026-11-01T15:00:00Z", **parameters})
        assert answer.status_code == 200
        assert "etag" in answer.headers
        return answer.headers["cache-control"] == "max-age=3600"

    await fill(city)
    assert not await kept(), "upkeep was not there yet"
    await run_once(settings)
    assert await kept()
    assert await kept(device="lamp-1", agg="p95", fill="locf")
    # Each of these asks the registry of today, or what is around the range.
    for asked in ({"by": "zone"}, {"by": "device"}, {"zone": "North"}, {"coverage": "true"}, {"min_coverage": "0.5"}):
        assert not await kept(**asked), asked
    for asked in ({"agg": "time_avg"}, {"metric": "energy_kwh"}, {"fill": "locf", "max_gap": "1d"}):
        assert not await kept(**asked), asked
    # A spool has given back what it kept.
    await city.add([Row(NOON + timedelta(minutes=7), city.devices[0], {"power_w": 1.0})])
    assert not await kept()
    await run_once(settings)
    assert await kept()


@pytest.mark.asyncio
async def test_recent_window_is_asked_again_with_its_tag(client: httpx.AsyncClient, city: City) -> None:
    now = datetime.now(UTC)
    edges: dict[str, Any] = {
        "start": (now - timedelta(days=2)).isoformat(),
        "end": (now - timedelta(days=1)).isoformat(),
    }
    answer = await get(client, **edges)
    assert (answer.headers["cache-control"], "etag" in answer.headers) == ("no-cache", True)


@pytest.mark.asyncio
async def test_long_answer_is_compressed_for_those_who_can(client: httpx.AsyncClient, city: City) -> None:
    await fill(city, hours=3)
    packed = await get(client, {"Accept-Encoding": "gzip"}, window="15m", by="device")
    plain = await get(client, {"Accept-Encoding": "identity"}, window="15m", by="device")
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content) / 5
    assert "content-encoding" not in plain.headers
    assert packed.json()["data"] == plain.json()["data"]
    assert packed.headers["etag"] == plain.headers["etag"]
