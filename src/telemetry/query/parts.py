"""An answer that was not read at once, part by part: a million rows take as much memory as some thousand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from telemetry.query.series import Series

PART = 4_000
"""Rows that are read from the database at a time."""


async def parts(found: Series) -> AsyncIterator[Series]:
    """The answer in parts, each an answer of its own, in order.

    The snapshot in which the answer was found must last until the last part. Each part may take as long as one
    statement.
    """
    yield replace(found, rest=None)
    if found.rest is not None:
        while rows := await found.rest.fetch(PART):
            yield replace(found, rows=rows, rest=None)
