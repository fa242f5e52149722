"""Partitions of the plain engine, one for each UTC day: there before the rows are, whoever needs them first."""

from __future__ import annotations

from collections.abc import Iterable

import asyncpg


async def ensure_partitions(database: asyncpg.Connection, domain: str, days: Iterable[object]) -> int:
    """Makes the partitions of the given UTC days where they are missing; the TimescaleDB engine needs none."""
    wanted = list(days)
    while True:
        try:
            made: int = await database.fetchval("SELECT telemetry_ensure_partitions($1, $2)", domain, wanted)
        except asyncpg.DuplicateTableError:
            continue  # another process made one after our look; a server process still remembers that it was not there
        return made
