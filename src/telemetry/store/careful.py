"""Storing a batch that holds known readings, or one that the database refuses.

Known rows are looked up before anything is written: most batches that come here are a broker's redelivery, and a look
is cheaper than an insert that conflicts, above all into compressed chunks. The rows that are new are copied; when the
database refuses one of them, halves are tried until the bad row stands alone. Each attempt is a savepoint.

Readings of one device and time may complete each other, so a row that is refused may be made of good readings and a bad
one. The readings of such a row are settled apart, one after the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from telemetry.errors import Reason, Unavailable
from telemetry.store import locks
from telemetry.store.batch import (
    DUPLICATE,
    MERGED,
    STORED,
    Batch,
    Key,
    Quarantined,
    Readings,
    Source,
    quarantined,
)
from telemetry.store.copy import PATIENCE_S, Counts, Stored, copy_entries, count, device_of
from telemetry.store.failures import Failure, classify, lacks_partition
from telemetry.store.layout import DEVICE_KEY, FIRST_METRIC, QUARTER_US, RECEIVED_AT, TIME, Entry, Layout, Row
from telemetry.store.merge import Again, differences, merge

_ATTEMPTS: Final = 5


@dataclass
class _Outcome:
    """What became of the readings of one domain."""

    domain: str
    counts: Counts = field(default_factory=Counts)
    refused: list[Quarantined] = field(default_factory=list)
    completed: list[Row] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)
    """Quarters of an hour that have new or completed rows, in µs since 1970."""

    def touch(self, rows: Iterable[Entry | Row]) -> None:
        """Notes the quarters of rows that were stored or completed."""
        self.touched.update(row[TIME] // QUARTER_US * QUARTER_US for row in rows)

    def refuse(self, reason: Reason, row: Row, source: Source, words: str) -> None:
        """Notes a reading that goes to quarantine."""
        self.refused.append(quarantined(source, row[RECEIVED_AT], self.domain, device_of(source), reason, words))


async def store_carefully(database: asyncpg.Connection, batch: Batch) -> Stored:
    """Stores what is new, completes what is there.

    The partitions of its days must have been made: a row that has none is refused.
    """
    counts: Counts = Counts()
    refused: list[Quarantined] = []
    quarters: list[tuple[str, int]] = []
    await database.execute("SELECT pg_advisory_xact_lock_shared($1)", locks.MERGE_ALL, timeout=PATIENCE_S)
    # Each in the order of their names, so that nobody has what another one waits for.
    for domain, readings in sorted(batch.readings.items()):
        # Two processes that complete the same row at the same moment would not see each other's values.
        await database.execute(
            "SELECT pg_advisory_xact_lock($1, hashtext($2))", locks.MERGE, domain, timeout=PATIENCE_S
        )
        outcome = await _store(database, domain, readings)
        await _note_completed(database, domain, outcome.completed)
        counts.update(outcome.counts)
        refused += outcome.refused
        quarters += [(domain, quarter) for quarter in sorted(outcome.touched)]
    return Stored(counts, refused, quarters)


async def _store(database: asyncpg.Connection, domain: str, readings: Readings) -> _Outcome:
    for _ in range(_ATTEMPTS):
        existing = await _existing(database, readings)
        try:
            async with database.transaction():
                return await _settle(database, domain, readings, existing)
        except asyncpg.UniqueViolationError:
            continue  # another process wrote the row after our look; the next look sees it
    raise Unavailable(f"other processes keep writing the same readings into {readings.layout.table}")


async def _note_completed(database: asyncpg.Connection, domain: str, rows: Collection[Row]) -> None:
    """Notes stored rows that were completed, in the transaction that completes them, for who asks what changed."""
    if not rows:
        return
    quarters = Counter(row[TIME] // QUARTER_US * QUARTER_US for row in rows)
    await database.execute(
        "INSERT INTO completed_readings SELECT $1, * FROM unnest($2::timestamptz[], $3::bigint[])",
        domain,
        list(quarters),
        list(quarters.values()),
    )


async def _settle(database: asyncpg.Connection, domain: str, readings: Readings, existing: dict[Key, Row]) -> _Outcome:
    """Writes all readings; those of rows that the database refuses one after the other."""
    apart: set[Key] = set()
    while True:
        outcome = _Outcome(domain)
        resolution = readings.resolve(existing, apart)
        outcome.refused += count(outcome.counts, domain, resolution)
        savepoint = database.transaction()
        await savepoint.start()
        bad = {_key(entry) for entry in await _copy_halving(database, readings.layout, resolution.inserts)}
        bad |= {_key(row) for row in resolution.updates if await _update(database, readings.layout, row) is not None}
        if not bad:
            await savepoint.commit()
            outcome.completed += resolution.updates
            outcome.touch([*resolution.inserts, *resolution.updates])
            break
        await savepoint.rollback()
        apart |= bad
    parts = readings.parts(apart)
    for key in sorted(apart):
        await _one_by_one(database, readings.layout, parts[key], existing.get(key), outcome)
    return outcome


async def _one_by_one(
    database: asyncpg.Connection,
    layout: Layout,
    parts: Sequence[tuple[Row, Source]],
    there: Row | None,
    outcome: _Outcome,
) -> None:
    """Settles the readings of one device and time in the order of receipt, so that a bad one spoils no other."""
    counts, domain = outcome.counts, outcome.domain
    for row, source in parts:
        again, merged = (None, row) if there is None else merge(there, row)
        if there is not None and again is Again.CONFLICT:
            outcome.refuse(Reason.CONFLICT, row, source, differences(layout.columns, there, row))
            continue
        if again is Again.DUPLICATE:
            counts[domain, DUPLICATE] += 1
            continue
        words = await (
            _insert(database, layout, [layout.entry(row)]) if there is None else _update(database, layout, merged)
        )
        if words is not None:
            outcome.refuse(Reason.REJECTED_BY_DATABASE, row, source, words)
            continue
        counts[domain, STORED] += 1
        outcome.touch([row])
        if there is not None:
            counts[domain, MERGED] += 1
            outcome.completed.append(merged)
        there = merged


async def _existing(database: asyncpg.Connection, readings: Readings) -> dict[Key, Row]:
    keys, times = zip(*readings.keys(), strict=True)
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
    return {_key(row): row for row in (Row(tuple(each)) for each in rows)}


def _key(row: Entry | Row) -> Key:
    return row[DEVICE_KEY], row[TIME]


async def _copy_halving(database: asyncpg.Connection, layout: Layout, entries: Sequence[Entry]) -> list[Entry]:
    """Copies all rows but those that the database refuses; returns these."""
    if not entries or await _insert(database, layout, entries) is None:
        return []
    if len(entries) == 1:
        return list(entries)
    half = len(entries) // 2
    first = await _copy_halving(database, layout, entries[:half])
    return first + await _copy_halving(database, layout, entries[half:])


async def _insert(database: asyncpg.Connection, layout: Layout, entries: Sequence[Entry]) -> str | None:
    """Copies rows, all or none; returns the database's words when it refuses one of them."""
    try:
        async with database.transaction():
            await copy_entries(database, layout, entries)
    except asyncpg.UniqueViolationError:
        raise
    except Exception as error:
        return _refusal(error)
    return None


async def _update(database: asyncpg.Connection, layout: Layout, row: Row) -> str | None:
    """Completes a row; returns the database's words when it refuses."""
    # An insert is led to the day that it belongs to, where UPDATE would plan and lock every chunk that there is.
    # Were somebody to delete the row now, it would be there again, with all that it had.
    columns, changed = layout.columns, layout.columns[FIRST_METRIC:]
    values = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
    statement = f"""
        INSERT INTO {layout.table} ({", ".join(columns)}) VALUES ({values})
        ON CONFLICT (device_key, time) DO UPDATE SET {", ".join(f"{column} = excluded.{column}" for column in changed)}
    """  # noqa: S608 - names of the registry
    try:
        async with database.transaction():
            await database.execute(statement, *row, timeout=PATIENCE_S)
    except Exception as error:
        return _refusal(error)
    return None


def _refusal(error: Exception) -> str:
    """The words of an error that is about a row; any other error is raised again."""
    if classify(error) is not Failure.ROW:
        raise error
    if lacks_partition(error):
        return f"{error}: the table of that day was detached, so that nothing can be stored there"
    return str(error)
