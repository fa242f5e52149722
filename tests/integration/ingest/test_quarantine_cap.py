"""A flood of messages that are no readings: all of them are accounted for, few of them are kept, and ingest goes on."""

from __future__ import annotations

import asyncio
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from asyncpg.transaction import Transaction

from telemetry.settings import Settings
from tests.support.flood import flood
from tests.support.gateway import gateway
from tests.support.ingesting import ingesting, received, shows

CAP = 50
FLOOD = 100_000
GROWTH_BYTES = 60 * 2**20
"""Beyond what the first fifth of the flood takes: caches fill, and the allocator keeps what it once had."""


def capped(settings: Settings, **ingest: Any) -> Settings:
    """The settings with a small cap."""
    changes = {"quarantine_per_device": CAP, **ingest}
    return settings.model_copy(update={"ingest": settings.ingest.model_copy(update=changes)})


def resident() -> int:
    """Bytes that this process holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def left_out(page: str) -> float:
    """Refused readings that the metrics call counted and not kept."""
    return sum(map(float, re.findall(r"quarantine_not_kept_total\{.*\} (\S+)", page)))


async def hours(database: asyncpg.Connection) -> int:
    """Hours of receipt that the ledger has: one, or two when the test ran over the full hour."""
    count: int = await database.fetchval("SELECT count(DISTINCT hour) FROM ledger")
    return count


@pytest.mark.asyncio
async def test_flood_of_malformed_messages_is_counted_and_hardly_kept(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    good = {"time": datetime.now(UTC).isoformat(), "power_w": 1.0}
    paths = ["lighting/mad-1", "lighting/mad-2", "parking/mad-3", "weather/station"]
    messages = [(paths[number % 4], b'{"power_w": %d' % number) for number in range(FLOOD)]
    async with ingesting(capped(settings)) as metrics:
        await flood(settings, messages[: FLOOD // 5])
        await received(connection, FLOOD // 5)
        before = resident()
        await flood(settings, messages[FLOOD // 5 :])
        found = await received(connection, FLOOD)
        assert resident() - before < GROWTH_BYTES
        assert found == {"received": FLOOD, "malformed": FLOOD * 3 // 4, "unknown_topic": FLOOD // 4}
        async with gateway(settings) as sender:
            await sender.send("lighting/mad-1", good)
            assert (await received(connection, FLOOD + 1))["stored"] == 1
        kept = await connection.fetch("SELECT topic, count(*) FROM quarantine GROUP BY topic")
        await shows(metrics, lambda page: left_out(page) == FLOOD - sum(row["count"] for row in kept))
    assert {row["topic"].partition("/")[2].partition("/")[2] for row in kept} == set(paths)
    most = CAP * await hours(connection)
    assert [row for row in kept if not CAP <= row["count"] <= most] == []


@pytest.mark.asyncio
async def test_arrays_of_nothing_but_faults_are_counted_and_hold_nothing_up(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    """A megabyte of `[1,1,…]` is legal: it once kept the event loop until the broker gave us up."""
    good = {"time": datetime.now(UTC).isoformat(), "power_w": 1.0}
    most = settings.ingest.max_array_elements
    async with ingesting(capped(settings)) as metrics:
        await flood(settings, [(f"lighting/mad-{n}", b"[" + b",".join([b"1"] * most) + b"]") for n in range(4)])
        await flood(settings, [("lighting/huge", b"[" + b",".join([b"1"] * 500_000) + b"]")])
        async with gateway(settings) as sender:
            await sender.send("lighting/lamp", good)
        found = await received(connection, 4 * most + 2)
        kept = await connection.fetchval("SELECT count(*) FROM quarantine WHERE reason = 'schema'")
        text = await shows(metrics, lambda page: left_out(page) == 4 * most - kept)
    assert found == {"received": 4 * most + 2, "schema": 4 * most, "oversize": 1, "stored": 1}
    assert 4 * CAP <= kept <= 4 * CAP * await hours(connection)
    assert re.findall(r"mqtt_reconnects_total\{.*\} (\S+)", text) == ["0.0"]


@pytest.mark.asyncio
async def test_conflicts_and_refused_rows_count_against_the_cap(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    await connection.execute("ALTER TABLE lighting_readings ADD CHECK (temperature_c <> 13)")
    now = datetime.now(UTC)
    payload = [{"time": now.isoformat(), "power_w": float(number)} for number in range(CAP)]
    times = [(now - timedelta(seconds=number)).isoformat() for number in range(1, 41)]
    poison = [{"time": time, "power_w": 1.0, "temperature_c": 13.0} for time in times]
    async with ingesting(capped(settings)), gateway(settings) as sender:
        await sender.send("lighting/lamp", [*payload, *poison])
        found = await received(connection, CAP + 40)
    assert found == {"received": CAP + 40, "stored": 1, "conflict": CAP - 1, "rejected_by_database": 40}
    rows = await connection.fetch("SELECT reason, device_id, payload FROM quarantine ORDER BY id")
    assert len(rows) == CAP
    assert {row["device_id"] for row in rows} == {"lamp"}
    assert all(json.loads(row["payload"]) in [*payload, *poison] for row in rows)


@pytest.mark.asyncio
@pytest.mark.parametrize("committed", [True, False])
async def test_batch_whose_commit_is_repeated_is_charged_once(
    settings: Settings, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    real = Transaction.commit
    lost: list[bool] = []

    async def commit(transaction: Any) -> None:
        if not lost and not transaction._nested:
            lost.append(True)
            if committed:
                await real(transaction)
            raise ConnectionResetError("the answer is lost")
        await real(transaction)

    async with ingesting(capped(settings)), gateway(settings) as sender:
        monkeypatch.setattr(Transaction, "commit", commit)
        await sender.send("lighting/mad", b"?")
        await received(connection, 1)
        monkeypatch.undo()
        await asyncio.gather(*(sender.send("lighting/mad", b"?") for _ in range(CAP)))
        await received(connection, CAP + 1)
    assert lost == [True]
    assert await connection.fetchval("SELECT count(*) FROM quarantine") in range(CAP, CAP * await hours(connection) + 1)
