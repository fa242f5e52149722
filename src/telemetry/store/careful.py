"""Storing a batch that holds known readings, or one that the database refuses.

Known rows are looked up before anything is written: most batches that come here are a broker's redelivery, and a look
is cheaper than an insert that conflicts, above all into compressed chunks. The rows that are new are copied; when the
database refuses one of them, halves are tried until the bad row stands alone. Each attempt is a savepoint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import asyncpg

from telemetry.errors import Reason, Unavailable
from telemetry.store.batch import Batch, Key, Quarantined, Readings, Resolution, Source, quarantined
from telemetry.store.copy import PATIENCE_S, Counts, copy, count
from telemetry.store.failures import Failure, classify
from telemetry.store.layout import DEVICE_KEY, RECEIVED_AT, TIME, Layout, Row

_ATTEMPTS: Final = 5
_MERGE_LOCK: Final = 0x7E1E_0004

Refusal = tuple[Row, "Source | list[Source]", str]
"""A row that the database refuses, the readings that it is made of, and its words."""


async def store_carefully(database: asyncpg.Connection, batch: Batch) -> tuple[Counts, list[Quarantined]]:
    """Stores what is new, completes what is there; returns the counts and the refused readings."""
    counts: Counts = Counter()
    refused: list[Quarantined] = []
    # Two processes that complete the same row at the same moment would not see each other's values.
    await database.execute("SELECT pg_advisory_xact_lock($1)", _MERGE_LOCK)
    for domain, readings in batch.readings.items():
        resolution, refusals = await _store(database, readings)
        refused += count(counts, domain, resolution)
        for row, source, words in refusals:
            sources = source if isinstance(source, list) else [source]
            refused += [_refused(each, row, domain, words) for each in sources]
    return counts, refused


async def _store(database: asyncpg.Connection, readings: Readings) -> tuple[Resolution, list[Refusal]]:
    for _ in range(_ATTEMPTS):
        resolution = readings.resolve(await _existing(database, readings))
        try:
            async with database.transaction():
                return await _apply(database, readings.layout, resolution)
        except asyncpg.UniqueViolationError:
            continue  # another process wrote the row after our look; the next look sees it
    raise Unavailable(f"other processes keep writing the same readings into {readings.layout.table}")


async def _existing(database: asyncpg.Connection, readings: Readings) -> dict[Key, Row]:
    keys, times = zip(*readings.keys, strict=True)
    rows = await database.fetch(
        f"""
        SELECT {", ".join(f"r.{column}" for column in readings.layout.columns)}
        FROM {readings.layout.table} AS r
        JOIN unnest($1::int[], $2::timestamptz[]) AS k (device_key, time) USING (device_key, time)
        WHERE r.time BETWEEN $3 AND $4
        """,  # noqa: S608 - names of the registry; the range lets the planner leave out whole days
        keys,
        times,
        min(times),
        max(times),
        timeout=PATIENCE_S,
    )
    return {(row[DEVICE_KEY], row[TIME]): tuple(row) for row in rows}


async def _apply(
    database: asyncpg.Connection, layout: Layout, resolution: Resolution
) -> tuple[Resolution, list[Refusal]]:
    """Writes what the resolution says, and returns what of it was done and what the database refused."""
    bad = await _copy_halving(database, layout, resolution.inserts)
    done = Resolution(
        [row for index, row in enumerate(resolution.inserts) if index not in bad],
        [source for index, source in enumerate(resolution.sources) if index not in bad],
        [],
        resolution.conflicts,
        resolution.duplicates,
    )
    refusals: list[Refusal] = [
        (resolution.inserts[index], resolution.sources[index], words) for index, words in bad.items()
    ]
    for row, sources in resolution.updates:
        words = await _update(database, layout, row)
        if words is None:
            done.updates.append((row, sources))
        else:
            refusals.append((row, sources, words))
    return done, refusals


async def _copy_halving(
    database: asyncpg.Connection, layout: Layout, rows: Sequence[Row], offset: int = 0
) -> dict[int, str]:
    """Copies all rows but those that the database refuses; returns the places of these, with its words."""
    if not rows:
        return {}
    try:
        async with database.transaction():
            await copy(database, layout.table, layout.columns, rows)
    except asyncpg.UniqueViolationError:
        raise
    except Exception as error:
        if classify(error) is not Failure.ROW:
            raise
        if len(rows) == 1:
            return {offset: str(error)}
    else:
        return {}
    half = len(rows) // 2
    first = await _copy_halving(database, layout, rows[:half], offset)
    return first | await _copy_halving(database, layout, rows[half:], offset + half)


async def _update(database: asyncpg.Connection, layout: Layout, row: Row) -> str | None:
    """Completes a row; returns the database's words when it refuses."""
    columns = ", ".join(f"{column} = ${place}" for place, column in enumerate(layout.columns, 1))
    statement = f"UPDATE {layout.table} SET {columns} WHERE device_key = ${DEVICE_KEY + 1} AND time = ${TIME + 1}"  # noqa: S608
    try:
        async with database.transaction():
            await database.execute(statement, *row, timeout=PATIENCE_S)
    except Exception as error:
        if classify(error) is not Failure.ROW:
            raise
        return str(error)
    return None


def _refused(source: Source, row: Row, domain: str, words: str) -> Quarantined:
    device_id = source.topic.rpartition("/")[2]
    return quarantined(source, row[RECEIVED_AT], domain, device_id, Reason.REJECTED_BY_DATABASE, words)
