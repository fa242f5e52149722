"""The rows that the database found, column by column: thousands of rows are a handful of lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
        buckets, groups, intervals, *cells = ([*map(itemgetter(each), rows)] for each in range(len(rows[0])))
        return cls(buckets, groups, intervals, cells)

    def __len__(self) -> int:
        return len(self.buckets)

    def __getitem__(self, part: slice) -> Columns:
        cells = [each[part] for each in self.cells]
        return Columns(self.buckets[part], self.groups[part], self.intervals[part], cells)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Row by row: bucket, group, interval, cells."""
        return zip(self.buckets, self.groups, self.intervals, *self.cells, strict=True)
