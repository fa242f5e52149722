"""Clocks at 1970 and 2099: their readings are refused, and make neither a partition nor a chunk."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from telemetry.settings import Settings
from telemetry.store.engine import Engine
from tests.support.gateway import gateway
from tests.support.ingesting import ingesting, received

CHUNKS = {
    "postgres": "SELECT relid::regclass::text AS name FROM pg_partition_tree('lighting_readings') WHERE isleaf",
    "timescaledb": "SELECT show_chunks('lighting_readings')::text AS name",
}


async def chunks(database: asyncpg.Connection, engine: Engine) -> set[str]:
    """The partitions or chunks of the lighting readings."""
    return {row["name"] for row in await database.fetch(CHUNKS[engine])}


@pytest.mark.asyncio
async def test_wrong_clock_makes_no_partition_and_no_chunk(
    settings: Settings, connection: asyncpg.Connection, engine: Engine
) -> None:
    now = datetime.now(UTC)
    wrong: list[Any] = [
        "1970-01-01T00:00:00Z",
        0,
        "2099-01-01T00:00:00Z",
        (now + settings.ingest.max_future + timedelta(minutes=20)).isoformat(),
        (now - settings.ingest.max_lateness - timedelta(minutes=1)).isoformat(),
        (now - settings.retention.readings - timedelta(days=1)).isoformat(),
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ]
    async with ingesting(settings), gateway(settings) as sender:
        await sender.send("lighting/known", {"time": now.isoformat(), "power_w": 1.0})
        await received(connection, 1)
        before = await chunks(connection, engine)
        assert before
        for time in wrong:
            await sender.send("lighting/known", {"time": time, "power_w": 1.0})
            await sender.send("lighting/new", [{"time": time, "power_w": 1.0}])
        found = await received(connection, 1 + 2 * len(wrong))
    assert found == {"received": 17, "stored": 1, "clock_future": 6, "clock_past": 10}
    assert await chunks(connection, engine) == before
    assert await connection.fetchval("SELECT count(*) FROM lighting_readings") == 1
    assert await connection.fetchval("SELECT count(*) FROM devices") == 1
