"""An answer that was not read at once, part by part: a million rows take as much memory as some thousand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
from asyncpg.cursor import Cursor

from telemetry.query.columns import Columns
from telemetry.query.series import Series
from telemetry.query.size import too_large
from telemetry.query.turns import rows_of

PART = 4_000
"""Rows that are read from the database at a time, if they have few values."""


async def parts(found: Series) -> AsyncIterator[Series]:
    """The answer in parts, each an answer of its own, in order.

    The snapshot in which the answer was found must last until the last part. Each part may take as long as one
    statement.

    Raises:
        InvalidQuery: the answer has more rows than it may: devices that are at home elsewhere report here, too.
    """
    yield replace(found, rest=None)
    if found.rest is not None:
        read = len(found.rows or ())
        size = rows_of(found.plan.question.values_per_bucket, PART)
        while rows := await fetch(found.rest, size):
            read += len(rows)
            if found.limit is not None and read >= found.limit:
                raise too_large(f"{read:,} rows or more", read, found.limit - 1)
            yield replace(found, rows=Columns.of_many(rows), rest=None)


async def fetch(rest: Cursor, size: int) -> list[asyncpg.Record]:
    """The next rows; none at the end."""
    rows: list[asyncpg.Record] = await rest.fetch(size)
    return rows
