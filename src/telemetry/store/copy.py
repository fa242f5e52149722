"""Rows into a table by COPY, in binary: the fastest way in that PostgreSQL has."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg

from telemetry.errors import Reason, TelemetryError
from telemetry.store.batch import DUPLICATE, MERGED, STORED, Batch, Quarantined, Resolution, Source, quarantined
from telemetry.store.binary import HEADER, TRAILER, encode
from telemetry.store.layout import RECEIVED_AT, SHAPE, Entry, Layout, Shape

Counts = Counter[tuple[str, str]]
"""Readings by domain and outcome, as the ledger has them."""

Quarters: TypeAlias = Sequence[tuple[str, int]]
"""Domains and quarters of an hour, in µs since 1970."""

PATIENCE_S: Final = 60.0
"""A statement that takes longer has lost its server; the batch is repeated over a new connection."""


class Stored(NamedTuple):
    """What became of the readings of a batch that could be stored.

    Attributes:
        refused: those that the rows there contradict, and those that the database refuses.
        quarters: those in which rows are new or were completed; None = all that the readings are about.
    """

    counts: Counts
    refused: list[Quarantined]
    quarters: Quarters | None


async def copy(database: asyncpg.Connection, table: str, columns: Sequence[str], rows: Sequence[Any]) -> None:
    """Copies rows into a table, value by value as the types of its columns ask for.

    Raises:
        TelemetryError: the server counted other rows than it was sent.
    """
    if rows:
        tag = await database.copy_records_to_table(table, columns=columns, records=rows, timeout=PATIENCE_S)
        _require(tag, table, len(rows))


async def copy_entries(database: asyncpg.Connection, layout: Layout, entries: Sequence[Entry]) -> None:
    """Copies readings into the table of their domain; errors as by `copy`."""
    if not entries:
        return
    # A view: asyncpg reads a file in another thread, at the cost of many a row, and takes bytes for a file's name.
    rows: Any = memoryview(_binary(entries))
    tag = await database.copy_to_table(
        layout.table, source=rows, columns=layout.columns, format="binary", timeout=PATIENCE_S
    )
    _require(tag, layout.table, len(entries))


def _binary(entries: Sequence[Entry]) -> bytes:
    """The readings as COPY reads them."""
    shapes: defaultdict[Shape, list[Entry]] = defaultdict(list)
    for entry in entries:
        shapes[entry[SHAPE]].append(entry)
    return b"".join([HEADER, *(encode(shape, alike) for shape, alike in shapes.items()), TRAILER])


async def store_new(database: asyncpg.Connection, batch: Batch) -> Stored:
    """Stores a batch whose readings are all new.

    Raises:
        asyncpg.UniqueViolationError: one of them is not new. Other errors of classes 22 and 23: a row is refused.
    """
    counts = Counts()
    for domain, readings in batch.readings.items():
        await copy_entries(database, readings.layout, readings.entries)
        counts[domain, STORED] += len(readings.entries)
    return Stored(counts, [], None)


def _require(tag: str, table: str, rows: int) -> None:
    if tag != f"COPY {rows}":
        raise TelemetryError(f"{rows} rows were sent to {table}, but the server says {tag!r}")


def count(counts: Counts, domain: str, resolution: Resolution) -> list[Quarantined]:
    """Adds a domain's outcomes to the counts and returns its conflicts as quarantine records."""
    counts[domain, STORED] += len(resolution.inserts) + resolution.merged
    counts[domain, MERGED] += resolution.merged
    counts[domain, DUPLICATE] += resolution.duplicates
    return [
        quarantined(source, row[RECEIVED_AT], domain, device_of(source), Reason.CONFLICT, words)
        for source, row, words in resolution.conflicts
    ]


def device_of(source: Source) -> str:
    """The device that a source is of: the last level of its topic."""
    return source.topic.rpartition("/")[2]
