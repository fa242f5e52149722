"""Long work in small portions: one event loop serves everybody, so no answer may keep it for long.

Some ten microseconds for an item make some ten milliseconds for a portion. Threads would not help: they take turns with
the loop as well, and make everything slower while they do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import TypeVar

PORTION = 1_000
"""Items that are worked on at a time."""
CELLS = 20_000
"""Values that rows of an answer have which are worked on at a time."""

Item = TypeVar("Item")


async def portions(items: Iterable[Item], size: int = PORTION) -> AsyncIterator[list[Item]]:
    """Some of the items at a time; in between, whatever else waits has its turn."""
    left = iter(items)
    while some := [*islice(left, size)]:
        yield some
        await asyncio.sleep(0)


async def collected(items: Iterable[Item], size: int = PORTION) -> list[Item]:
    """All of the items, made a portion at a time."""
    return [item async for some in portions(items, size) for item in some]


def rows_of(cells: int, most: int = PORTION) -> int:
    """How many rows of so many values are a portion; at least one."""
    return max(1, min(most, CELLS // max(1, cells)))
