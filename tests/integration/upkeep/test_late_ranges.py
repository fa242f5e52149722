"""The list of quarters that the roll-ups do not show: ingest appends to it without looking, upkeep keeps it short."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from telemetry.settings import Settings
from telemetry.upkeep.rounds import run_once

OPEN_FOR = timedelta(minutes=10)
"""The quarter of an hour stays open for at least so long."""


@pytest.mark.asyncio
async def test_many_entries_of_the_open_quarter_become_one_at_once(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    """Each compared with each other one would be more than a billion comparisons: many minutes."""
    await connection.execute(
        """
        INSERT INTO late_ranges (domain, bucket)
        SELECT 'waste', date_bin('15 minutes', now() + $1, '2000-01-01 00:00Z') - quarter * interval '1 hour'
        FROM (VALUES (0), (1)) AS q (quarter), generate_series(1, 50000)
        """,
        OPEN_FOR,
    )
    newest = await connection.fetchval("SELECT max(id) FROM late_ranges WHERE bucket > now() - interval '30 minutes'")
    async with asyncio.timeout(100):
        await run_once(settings)
    left = await connection.fetch("SELECT id FROM late_ranges")
    assert [row["id"] for row in left] == [newest]
