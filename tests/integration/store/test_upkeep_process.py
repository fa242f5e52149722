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
from telemetry.store.changes import closed_before
from tests.integration.query.asking import DEVICES
from tests.integration.query.rows import City, Row
from tests.support.supervised import until

REACHED_WITHIN_S = 60
"""What the guide promises of a late batch."""
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
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


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
        async with asyncio.timeout(REACHED_WITHIN_S):
            await until(connection, "SELECT count(*) FROM changes", lambda rows: rows == 1)
        for width in ("15m", "1h", "1d"):
            row = await connection.fetchrow(f"SELECT samples, power_w_sum FROM lighting_{width}")
            assert row is not None
            assert tuple(row) == (3, 11.0), width
        assert await connection.fetchval("SELECT count(*) FROM late_ranges") == 0
        assert await connection.fetchval("SELECT late FROM changes") == 2
