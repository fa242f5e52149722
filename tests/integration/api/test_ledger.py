"""`GET /v1/ledger` and the gauge made of it: what is missing is shown."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
import httpx
import pytest

TEN, ELEVEN = datetime(2026, 11, 20, 10, tzinfo=UTC), datetime(2026, 11, 20, 11, tzinfo=UTC)
BALANCED = [
    (TEN, "lighting", "a", "received", 100),
    (TEN, "lighting", "a", "stored", 90),
    (TEN, "lighting", "a", "merged", 5),
    (TEN, "lighting", "a", "duplicate", 7),
    (TEN, "lighting", "a", "schema", 2),
    (TEN, "lighting", "b", "received", 1),
    (TEN, "lighting", "b", "clock_past", 2),
    (ELEVEN, "lighting", "a", "received", 10),
    (ELEVEN, "lighting", "a", "stored", 10),
    (ELEVEN, "waste", "a", "received", 3),
    (ELEVEN, "waste", "a", "duplicate", 3),
]
DAY = {"start": "2026-11-20T10:30:00Z", "end": "2026-11-20T12:00:00Z", "tz": "UTC"}


async def store(connection: asyncpg.Connection, *more: tuple[datetime, str, str, str, int]) -> None:
    await connection.copy_records_to_table("ledger", records=[*BALANCED, *more])


@pytest.mark.asyncio
async def test_ledger_shows_each_domain_and_hour_that_the_range_touches(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await store(connection)
    answer = (await client.get("/v1/ledger", params=DAY)).json()
    assert [(row["hour"], row["domain"], row["imbalance"]) for row in answer["data"]] == [
        ("2026-11-20T10:00:00+00:00", "lighting", 0),
        ("2026-11-20T11:00:00+00:00", "lighting", 0),
        ("2026-11-20T11:00:00+00:00", "waste", 0),
    ]
    assert answer["data"][0] == {
        "hour": "2026-11-20T10:00:00+00:00",
        "domain": "lighting",
        "received": 101,
        "stored": 90,
        "merged": 5,
        "duplicate": 7,
        "quarantined": 4,
        "imbalance": 0,
        "reasons": {"schema": 2, "clock_past": 2},
    }
    meta = answer["meta"]
    assert meta["balanced"] is True
    assert meta["totals"] == {
        "received": 114,
        "stored": 100,
        "merged": 5,
        "duplicate": 10,
        "quarantined": 4,
        "imbalance": 0,
        "reasons": {"clock_past": 2, "schema": 2},
    }
    assert meta["domains"]["waste"]["received"] == 3


@pytest.mark.asyncio
async def test_ledger_of_one_domain_and_hour(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await store(connection)
    asked = {**DAY, "start": "2026-11-20T11:00:00Z", "domain": "lighting"}
    answer = (await client.get("/v1/ledger", params=asked)).json()
    assert [(row["domain"], row["received"]) for row in answer["data"]] == [("lighting", 10)]
    refused = await client.get("/v1/ledger", params={"domain": "water"})
    assert refused.status_code == 422
    assert "unknown" in refused.json()["allowed"]


@pytest.mark.asyncio
async def test_imbalance_is_shown_by_ledger_and_metrics(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await store(connection, (ELEVEN, "parking", "a", "received", 2))
    answer = (await client.get("/v1/ledger", params=DAY)).json()
    assert answer["meta"]["balanced"] is False
    assert answer["meta"]["domains"]["parking"]["imbalance"] == 2
    text = (await client.get("/metrics")).text
    assert 'telemetry_ledger_imbalance{domain="parking"} 2.0' in text
    assert 'telemetry_ledger_imbalance{domain="lighting"} 0.0' in text


@pytest.mark.asyncio
async def test_losses_of_the_broker_are_beside_the_ledger_of_the_hours_asked_for(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    unseen = (await client.get("/v1/ledger", params=DAY)).json()["meta"]["broker"]
    assert unseen == {"messages_dropped": None, "sessions_lost": 0, "counters_seen_at": None, "hours": []}
    losses = [
        (TEN, "broker:1883", "a", "messages_dropped", 12),
        (ELEVEN, "broker:1883", "a", "sessions_lost", 1),
        (datetime(2026, 11, 20, 12, tzinfo=UTC), "broker:1883", "a", "messages_dropped", 99),
    ]
    await connection.copy_records_to_table("broker_losses", records=losses)
    await connection.execute("INSERT INTO broker_counters VALUES ('broker:1883', 'a', '$SYS/x', 111, $1)", ELEVEN)
    assert (await client.get("/v1/ledger", params=DAY)).json()["meta"]["broker"] == {
        "messages_dropped": 12,
        "sessions_lost": 1,
        "counters_seen_at": "2026-11-20T11:00:00+00:00",
        "hours": [
            {"hour": "2026-11-20T10:00:00+00:00", "messages_dropped": 12, "sessions_lost": 0},
            {"hour": "2026-11-20T11:00:00+00:00", "messages_dropped": 0, "sessions_lost": 1},
        ],
    }
