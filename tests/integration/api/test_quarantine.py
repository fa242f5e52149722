"""`/v1/quarantine`: everything that was refused can be seen as it came."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import pytest

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ENTRIES = [
    (NOON, "lighting", "lamp-1", "schema", b'{"power_w": "a lot"}'),
    (NOON + timedelta(hours=1), "lighting", "lamp-2", "out_of_range", b'{"power_w": 1e9}'),
    (NOON + timedelta(hours=2), "waste", None, "malformed", b"\xff\x00\xfe"),
    (NOON + timedelta(hours=3), "unknown", None, "unknown_topic", "é".encode() * 5000),
]


async def store(connection: asyncpg.Connection) -> None:
    await connection.copy_records_to_table(
        "quarantine",
        columns=["received_at", "domain", "device_id", "reason", "payload", "detail", "topic", "position"],
        records=[(*entry, "a detail", "city/v1/x", None) for entry in ENTRIES],
    )


@pytest.mark.asyncio
async def test_entries_come_newest_first_page_by_page(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await store(connection)
    first = (await client.get("/v1/quarantine", params={"limit": 3})).json()
    second = (await client.get("/v1/quarantine", params={"limit": 3, "cursor": first["meta"]["next"]})).json()
    found = first["data"] + second["data"]
    assert [row["reason"] for row in found] == ["unknown_topic", "malformed", "out_of_range", "schema"]
    assert second["meta"]["next"] is None
    assert found[3] == {
        "id": found[3]["id"],
        "received_at": "2026-11-20T12:00:00Z",
        "domain": "lighting",
        "device_id": "lamp-1",
        "reason": "schema",
        "detail": "a detail",
        "topic": "city/v1/x",
        "position": None,
        "payload": '{"power_w": "a lot"}',
        "payload_encoding": "text",
        "payload_bytes": 20,
    }


@pytest.mark.asyncio
async def test_page_goes_on_to_the_start_of_the_first_one_whatever_time_it_is(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await store(connection)
    await connection.execute("UPDATE quarantine SET received_at = now() - interval '50 minutes'")
    first = (await client.get("/v1/quarantine", params={"start": "-1h", "limit": 2})).json()
    # As if the client had taken its time: an hour before now is later by then.
    moved = {"start": "-30m", "limit": 2, "cursor": first["meta"]["next"]}
    assert len((await client.get("/v1/quarantine", params=moved)).json()["data"]) == 2


@pytest.mark.asyncio
async def test_payload_is_text_or_base64_and_whole_by_its_id(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await store(connection)
    long, binary, *_ = (await client.get("/v1/quarantine")).json()["data"]
    assert (binary["payload_encoding"], base64.b64decode(binary["payload"])) == ("base64", b"\xff\x00\xfe")
    assert (long["payload_encoding"], long["payload"], long["payload_bytes"]) == ("text", "é" * 2048, 10_000)
    whole = (await client.get(f"/v1/quarantine/{long['id']}")).json()["data"]
    assert whole["payload"] == "é" * 5000
    assert (await client.get("/v1/quarantine/999999")).status_code == 404


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({"reason": ["schema", "malformed"]}, {"schema", "malformed"}),
        ({"domain": "lighting"}, {"schema", "out_of_range"}),
        ({"domain": "unknown"}, {"unknown_topic"}),
        ({"device": "lamp-2"}, {"out_of_range"}),
        ({"start": "2026-11-20T13:00:00Z", "end": "2026-11-20T15:00:00Z"}, {"out_of_range", "malformed"}),
    ],
)
async def test_filters_hold_for_list_and_summary(
    client: httpx.AsyncClient, connection: asyncpg.Connection, filters: dict[str, str], wanted: set[str]
) -> None:
    await store(connection)
    listed = (await client.get("/v1/quarantine", params=filters)).json()["data"]
    summary = (await client.get("/v1/quarantine/summary", params=filters)).json()
    assert {row["reason"] for row in listed} == wanted
    assert {row["reason"] for row in summary["data"]} == wanted
    assert summary["meta"]["count"] == sum(row["count"] for row in summary["data"]) == len(wanted)


@pytest.mark.asyncio
@pytest.mark.parametrize("given", [{"reason": "bad"}, {"domain": "water"}, {"cursor": "x"}, {"start": "noon"}])
async def test_refusal_names_the_parameter(client: httpx.AsyncClient, given: dict[str, str]) -> None:
    answer = await client.get("/v1/quarantine", params=given)
    assert answer.status_code == 422
    assert answer.json()["parameter"] == next(iter(given))
