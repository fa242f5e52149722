"""The rows that the database found, column by column: thousands of rows are a handful of lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

import asyncpg

from telemetry.query.coverage import Group


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows in order of bucket and group.

    Attributes:
        buckets: from 1.
        groups: a device's id or the name of a zone; None for all together.
        intervals: seconds between the readings of a device; None where they are not known, or the group is no device.
        cells: of each row the columns of its statement.
    """

    buckets: Sequence[int]
    groups: Sequence[Group]
    intervals: Sequence[float | None]
    cells: Sequence[Sequence[Any]]

    @classmethod
    def of_one(cls, row: asyncpg.Record) -> Columns:
        """Of the one row that has each column as an array, or its only value (`sql.gathered`)."""
        buckets, groups, intervals, *cells = row
        if buckets is None:
            return cls((), (), (), tuple(() for _ in cells))
        count = len(buckets)
        groups, intervals = (each if isinstance(each, list) else [each] * count for each in (groups, intervals))
        return cls(buckets, groups, intervals, cells)

    @classmethod
    def of_many(cls, rows: Sequence[asyncpg.Record]) -> Columns:
        """Of rows as `sql.ordered` has them; there is at least one."""
        buckets, groups, intervals, *cells = columns_of(rows)
        return cls(buckets, groups, intervals, cells)

    @classmethod
    def joined(cls, parts: Sequence[Columns]) -> Columns:
        """Of parts that follow each other; there may be none."""
        if len(parts) == 1:
            return parts[0]
        every = [[*chain.from_iterable(columns)] for columns in zip(*(part._all() for part in parts), strict=True)]
        buckets, groups, intervals, *cells = every or ((), (), ())
        return cls(buckets, groups, intervals, cells)

    def __len__(self) -> int:
        return len(self.buckets)

    def __getitem__(self, part: slice) -> Columns:
        cells = [each[part] for each in self.cells]
        return Columns(self.buckets[part], self.groups[part], self.intervals[part], cells)

    def parts(self, size: int) -> Iterator[Columns]:
        """So many rows at a time."""
        return (self[first : first + size] for first in range(0, len(self), size))

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Row by row: bucket, group, interval, cells."""
        return zip(*self._all(), strict=True)

    def _all(self) -> Sequence[Sequence[Any]]:
        return self.buckets, self.groups, self.intervals, *self.cells


def columns_of(rows: Sequence[asyncpg.Record]) -> list[list[Any]]:
    """The columns of some rows; there is at least one."""
    return [[*map(itemgetter(position), rows)] for position in range(len(rows[0]))]
