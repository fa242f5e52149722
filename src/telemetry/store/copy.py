"""Rows into a table by COPY, in binary: the fastest way in that PostgreSQL has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from telemetry.errors import Reason, TelemetryError
from telemetry.store.batch import DUPLICATE, MERGED, STORED, Batch, Quarantined, Resolution, Source, quarantined
from telemetry.store.layout import RECEIVED_AT

Counts = Counter[tuple[str, str]]
"""Readings by domain and outcome, as the ledger has them."""

PATIENCE_S: Final = 60.0
"""A statement that takes longer has lost its server; the batch is repeated over a new connection."""


async def copy(database: asyncpg.Connection, table: str, columns: Sequence[str], rows: Sequence[Any]) -> None:
    """Copies rows into a table.

    Raises:
        TelemetryError: the server counted other rows than it was sent.
    """
    if not rows:
        return
    tag = await database.copy_records_to_table(table, columns=columns, records=rows, timeout=PATIENCE_S)
    if tag != f"COPY {len(rows)}":
        raise TelemetryError(f"{len(rows)} rows were sent to {table}, but the server says {tag!r}")


async def store_new(database: asyncpg.Connection, batch: Batch) -> tuple[Counts, list[Quarantined]]:
    """Stores a batch whose readings are all new; returns the counts and the refused readings.

    Raises:
        asyncpg.UniqueViolationError: one of them is not new. Other errors of classes 22 and 23: a row is refused.
    """
    counts = Counts()
    refused: list[Quarantined] = []
    for domain, readings in batch.readings.items():
        resolution = readings.resolve({})
        await copy(database, readings.layout.table, readings.layout.columns, resolution.inserts)
        refused += count(counts, domain, resolution)
    return counts, refused


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
