"""Long work leaves turns to others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from telemetry.query.turns import CELLS, PORTION, collected, portions, rows_of


class Turns:
    """Counts the turns of the event loop."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


def watched(turns: Turns, items: int, seen: list[int]) -> Iterator[int]:
    """Items, and when each was made."""
    for item in range(items):
        seen.append(turns.count)
        yield item


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [1, 3, 10, 11])
async def test_no_more_than_a_portion_is_made_in_one_turn(size: int) -> None:
    turns, seen = Turns(), list[int]()
    counting = asyncio.create_task(turns.run())
    found = [some async for some in portions(watched(turns, 10, seen), size)]
    counting.cancel()
    assert [item for some in found for item in some] == list(range(10))
    assert max(map(len, found)) <= size
    assert max(map(seen.count, seen)) <= size


@pytest.mark.asyncio
async def test_collected_items_are_all_items() -> None:
    assert await collected(iter(range(10)), 4) == list(range(10))
    assert await collected([]) == []


@pytest.mark.parametrize(("cells", "rows"), [(0, PORTION), (1, PORTION), (100, CELLS // 100), (10 * CELLS, 1)])
def test_rows_of_many_values_are_a_smaller_portion(cells: int, rows: int) -> None:
    assert rows_of(cells) == rows
