"""The edges of buckets, kept as stretches of even steps.

Between two changes of the clocks buckets follow each other evenly: a month of quarters of an hour is one stretch, or
two, or three. What would be done for each of 2,881 edges is done for each stretch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import accumulate, chain, pairwise, repeat
from typing import overload

from telemetry.query.instants import instant, microseconds

_MICROSECOND = timedelta(microseconds=1)
SECOND = 1_000_000
"""Microseconds."""


class Edges(Sequence[datetime]):
    """Instants in UTC, rising.

    Attributes:
        stretches: the instants as microseconds since 1970; at least one in each.
    """

    __slots__ = ("_ends", "stretches")

    def __init__(self, pieces: Iterable[range]) -> None:
        """Joins pieces, each rising and behind the one before, wherever the steps go on evenly."""
        self.stretches: list[range] = []
        for piece in pieces:
            self._append(piece)
        self._ends = [*accumulate(map(len, self.stretches))]

    @classmethod
    def around(cls, pieces: Iterable[range], start: datetime, end: datetime) -> Edges:
        """Those that hold `[start, end)`: from the last at or before the start to the first at or after the end.

        Args:
            pieces: rising, from at or before the start to at or after the end, or without end; what was there already
                is passed over.
        """
        first, last = microseconds(start), microseconds(end)
        found = cls(_until(pieces, last))
        return cls(found.cut(max(1, found.up_to(first)) - 1, found.up_to(last - 1) + 1))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[datetime]:
        for stretch in self.stretches:
            at, step = instant(stretch[0]), timedelta(microseconds=stretch.step)
            for _ in stretch:
                yield at
                at += step

    @overload
    def __getitem__(self, position: int) -> datetime: ...
    @overload
    def __getitem__(self, position: slice) -> list[datetime]: ...
    def __getitem__(self, position: int | slice) -> datetime | list[datetime]:
        return [*self][position] if isinstance(position, slice) else instant(self.at(position))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and [*self] == [*other]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Edges({self.stretches})"

    def at(self, position: int) -> int:
        """The instant at a position, in microseconds since 1970."""
        position = range(len(self))[position]
        number = bisect_right(self._ends, position)
        stretch = self.stretches[number]
        return stretch[position - self._ends[number]]

    def up_to(self, at: int) -> int:
        """How many lie at or before an instant, in microseconds since 1970."""
        count = 0
        for stretch in self.stretches:
            if at < stretch[-1]:
                return count + max(0, (at - stretch[0]) // stretch.step + 1)
            count += len(stretch)
        return count

    def seconds(self) -> list[float]:
        """The length of each bucket."""
        return [*chain.from_iterable(repeat(step / SECOND, count) for step, count in self._steps())]

    def are_multiples(self, width: timedelta) -> bool:
        """Whether every edge but the outermost ones is a multiple of a width, counted from 1970."""
        step = width // _MICROSECOND
        inner = self.cut(1, len(self) - 1)
        return all(not each[0] % step and (len(each) == 1 or not each.step % step) for each in inner)

    def are_cells(self, width: timedelta) -> bool:
        """Whether the buckets are the cells of that width, counted from 1970."""
        step = width // _MICROSECOND
        return not self.at(0) % step and all(each == step for each, _ in self._steps())

    def cut(self, start: int, end: int) -> Iterator[range]:
        """The stretches between two positions."""
        for stretch, behind in zip(self.stretches, self._ends, strict=True):
            first = behind - len(stretch)
            if part := stretch[max(0, start - first) : max(0, end - first)]:
                yield part

    def _steps(self) -> Iterator[tuple[int, int]]:
        """Lengths of buckets in microseconds, each with how many follow each other."""
        for stretch, following in pairwise([*self.stretches, range(0)]):
            yield stretch.step, len(stretch) - 1
            if following:
                yield following[0] - stretch[-1], 1

    def _append(self, piece: range) -> None:
        if self.stretches:
            before = self.stretches[-1]
            gap = piece[0] - before[-1]
            if {each.step for each in (before, piece) if len(each) > 1} <= {gap}:
                self.stretches[-1] = range(before[0], piece[-1] + 1, gap)
                return
        self.stretches.append(piece)


def steps(start: datetime, end: datetime, step: timedelta) -> range:
    """A piece: the start, and as many steps as lie before the end."""
    return range(microseconds(start), microseconds(end), step // _MICROSECOND)


def single(at: datetime) -> range:
    """A piece that is one instant."""
    return range(first := microseconds(at), first + 1)


def _until(pieces: Iterable[range], last: int) -> Iterator[range]:
    """The pieces up to the one that reaches an instant."""
    newest: int | None = None
    for piece in pieces:
        # A day that a zone skipped (Samoa, 30 December 2011) begins where the next one does.
        if newest is not None and piece and piece[0] <= newest:
            piece = piece[bisect_right(piece, newest) :]
        if piece:
            yield piece
            newest = piece[-1]
        if newest is not None and newest >= last:
            return
