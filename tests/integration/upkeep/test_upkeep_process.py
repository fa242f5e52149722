"""`telemetry maintain` as a process of its own, with the settings as they come."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from telemetry.settings import Settings
from telemetry.upkeep.changes import closed_before
from tests.integration.query.asking import DEVICES
from tests.integration.query.rows import City, Row
from tests.support.supervised import PATIENCE_S, until

REACHED_WITHIN = timedelta(seconds=60)
"""What the guide promises of a late batch: one round of upkeep later, and a machine that is not busy."""
EARLIER = closed_before(datetime.now(UTC), timedelta(days=3))


@asynccontextmanager
async def maintaining(settings: Settings) -> AsyncIterator[None]:
    """`telemetry maintain` runs while the block does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telemetry", "--set", f"database.url={settings.database.url.get_secret_value()}"),
        "maintain",
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=dict(os.environ),
    )
    try:
        yield
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def rounds_without_changes(database: asyncpg.Connection) -> int:
    """Waits until a change is noted; returns after how many rounds there was none yet, the one before included."""
    seen: set[datetime] = set()
    query = "SELECT noted_at, (SELECT count(*) FROM changes) AS changes FROM closings WHERE domain = 'lighting'"
    async with asyncio.timeout(PATIENCE_S):
        while True:
            row = await database.fetchrow(query)
            assert row is not None
            if row["changes"]:
                return len(seen)
            seen.add(row["noted_at"])
            await asyncio.sleep(0.05)


@pytest.mark.asyncio
async def test_late_batch_reaches_every_roll_up_and_the_changes(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    city = City(connection, "lighting", DEVICES)
    await city.register()
    await city.add([Row(EARLIER, DEVICES[0], {"power_w": 1.0})])
    async with maintaining(settings):
        await until(connection, "SELECT count(*) FROM lighting_1d WHERE samples = 1", lambda rows: rows == 1)
        # The round that has shown it is over, so the batch waits for the next one.
        await until(connection, "SELECT count(*) FROM closings WHERE domain = 'lighting'", lambda rows: rows == 1)
        await city.add(Row(EARLIER + timedelta(seconds=each), DEVICES[0], {"power_w": 5.0}) for each in (1, 2))
        # A round may have been amid its work when the batch came; it is the next one that notes it.
        rounds = await rounds_without_changes(connection)
        assert rounds <= 2
        assert rounds * settings.maintain.interval < REACHED_WITHIN
        for width in ("15m", "1h", "1d"):
            row = await connection.fetchrow(f"SELECT samples, power_w_sum FROM lighting_{width}")
            assert row is not None
            assert tuple(row) == (3, 11.0), width
        assert await connection.fetchval("SELECT count(*) FROM late_ranges") == 0
        assert await connection.fetchval("SELECT late FROM changes") == 2
