"""Answering a question about time windows: scope, size, plan, statements, rows; within one snapshot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import Any

import asyncpg
from asyncpg.cursor import Cursor

from telemetry.domains import Kind
from telemetry.errors import NotKept
from telemetry.query.aggregates import Family
from telemetry.query.columns import Columns
from telemetry.query.cost import Bound
from telemetry.query.coverage import Expected, find_expected
from telemetry.query.database import Connection
from telemetry.query.fill import Filling, withheld
from telemetry.query.history import History
from telemetry.query.kept import out_of_reach, refuse_lost
from telemetry.query.neighbours import Surroundings, reach
from telemetry.query.partials import columns_statement, rows_statement
from telemetry.query.plan import Plan, Segment, make_plan
from telemetry.query.points import Merged, Point
from telemetry.query.question import Fill, Question
from telemetry.query.scope import Scope, find_scope, named_groups
from telemetry.query.series import Series
from telemetry.query.size import REACHING, Limits, aside, laid_edges, outer_edge, too_large
from telemetry.query.spread import spread_statement
from telemetry.query.sql import Statement
from telemetry.query.steps import known_statement, steps_statement
from telemetry.query.turns import collected, portions, rows_of

ONE_ROW = 200_000
"""Cells that an answer may have to come as one row of columns, which is read at once while everybody else waits."""
PART = 4_000
"""Rows that are read from the database at a time, if they have few values."""
_MARGIN = timedelta(days=2)
"""Late quarters this far outside the range may lie in a cell that touches it."""
_HISTORY = (Family.CHANGE, Family.TIME)


@dataclass(frozen=True, slots=True)
class Streaming:
    """Leave to read an answer part by part (`Series.rest`).

    Attributes:
        at_once: rows that are read before the answer is given; most answers have no more.
        max_values: an answer read like this may have as many values.
    """

    at_once: int
    max_values: int


async def answer(
    connection: Connection,
    question: Question,
    max_values: int,
    streaming: Streaming | None = None,
    *,
    bound: Bound | None = None,
) -> Series:
    """The answer, read within the snapshot of the connection; all of it, unless it may be read by `streaming`.

    Raises:
        InvalidQuery: the answer would have more than `max_values` values, or a device or zone is not there.
        TooLarge: more rows would be read than the bound allows.
        NotKept: readings would be needed that were dropped with age.
    """
    if question.fill is not Fill.NONE:
        # What is filled in may come from any bucket.
        streaming = None
    limits = Limits(streaming.max_values if streaming else max_values, max_values)
    limits.check_buckets(question)
    scope = await find_scope(connection, question, _MARGIN + reach(question))
    edges = await laid_edges(question)
    limits.check_values(question, len(edges) - 1, scope.groups)
    make = partial(make_plan, question, edges, scope.late, scope.city_zone, scope.counters_from)
    plan = await aside(make, len(edges))
    refuse_lost(plan, scope)
    cost = None if bound is None else await bound.check(connection, plan, scope.device_keys)
    expected = await find_expected(connection, plan, edges, scope.device_keys)
    answering = _Answering(connection, plan, scope, expected, max_values, bound)
    if streaming is None or (len(edges) - 1) * scope.groups <= streaming.at_once:
        found = await answering.whole()
    elif _is_plain(question):
        found = await replace(answering, max_values=streaming.max_values).row_by_row(streaming.at_once)
    else:
        limits.check_bucket(question, scope.groups)
        found = await answering.by_stretches(streaming)
    return replace(found, cost=cost)


@dataclass(frozen=True)
class _Answering:
    """A question, or a stretch of its buckets, on its way through its statements.

    Attributes:
        expected: in each bucket of the whole question.
        before: buckets of the whole question that lie before those of the plan.
    """

    connection: Connection
    plan: Plan
    scope: Scope
    expected: Expected
    max_values: int
    bound: Bound | None
    before: int = 0

    async def whole(self) -> Series:
        """All of the answer at once."""
        question = self.plan.question
        if _is_plain(question):
            return self._series(rows=await self._rows())
        merged = await self._merged()
        points = await self._points(merged)
        if question.fill is not Fill.NONE:
            points = await self._filled(points, merged)
        return self._series(made=points, settled_until=await self._settled_until(merged.known))

    async def row_by_row(self, at_once: int) -> Series:
        """The rows as the database makes them, if there are more than so many."""
        # Not for small answers: a statement whose rows are fetched in parts has no parallel workers.
        statement = await aside(self._rows_statement(), len(self.plan.edges))
        cursor = await self.connection.cursor(statement.text, *statement.values)
        rows = await cursor.fetch(at_once + 1)
        self._refuse_too_many(rows)
        columns = Columns.joined([Columns.of_many(some) async for some in self._portions(rows)])
        return self._series(rows=columns, rest=self._rest(cursor, len(rows)) if len(rows) > at_once else None)

    async def by_stretches(self, streaming: Streaming) -> Series:
        """What is made of several statements, a stretch of buckets after the other.

        No bucket needs to know of another: what reaches into a stretch is looked for as it is around any range.
        """
        size = self._buckets_of(streaming.at_once)
        stretches = self._stretches(size, streaming.max_values)
        points: list[Point] = []
        rest: AsyncIterator[Series] | None = None
        async for some in stretches:
            points += some.made
            if len(points) > streaming.at_once:
                rest = stretches
                break
        # What is still to come is known by the end of the range alone.
        settled_until = await self._stretch(max(0, self._buckets - size), size)._settled_until({})
        return self._series(made=points, settled_until=settled_until, rest=rest)

    def _series(self, **told: Any) -> Series:
        return Series(self.plan, self.expected, self.scope, **told)

    async def _rest(self, cursor: Cursor, read: int) -> AsyncIterator[Series]:
        size = rows_of(self.plan.question.values_per_bucket, PART)
        while rows := await fetch(cursor, size):
            read += len(rows)
            if read >= self._limit:
                raise too_large(f"{read:,} rows or more", read, self._limit - 1)
            yield self._series(rows=Columns.of_many(rows))

    async def _stretches(self, size: int, max_values: int) -> AsyncIterator[Series]:
        values = 0
        for first in range(0, self._buckets, size):
            stretch = self._stretch(first, size)
            found = self._series(made=await stretch._points(await stretch._merged()))
            values += found.values
            if values > max_values:
                raise too_large(f"{values:,} values or more", values, max_values)
            yield found

    def _stretch(self, first: int, size: int) -> _Answering:
        return replace(self, plan=self.plan.part(first, min(first + size, self._buckets)), before=first)

    def _buckets_of(self, rows: int) -> int:
        return max(1, rows // max(1, self.scope.groups * len(self.plan.question.metrics)))

    @property
    def _buckets(self) -> int:
        return len(self.plan.edges) - 1

    @property
    def _limit(self) -> int:
        # Devices that are at home elsewhere may report here as well, so there may be more groups than were counted.
        return self.max_values // self.plan.question.values_per_bucket + 1

    async def _rows(self) -> Columns:
        if self._cells <= ONE_ROW:
            return await self._columns()
        rows = await self._fetch(self._rows_statement())
        return Columns.joined([Columns.of_many(some) async for some in self._portions(rows)])

    @property
    def _cells(self) -> int:
        question = self.plan.question
        return self._buckets * self.scope.groups * (3 + len(question.metrics) + question.values_per_bucket)

    async def _columns(self) -> Columns:
        make = partial(columns_statement, self.plan, self.scope.device_keys, self._limit)
        statement = await aside(make, len(self.plan.edges))
        # Not `fetchrow`: it asks for one row at the most, and such a statement has no parallel workers.
        (row,) = await self.connection.fetch(statement.text, *statement.values)
        columns = Columns.of_one(row)
        self._refuse_too_many(columns)
        return columns

    def _rows_statement(self) -> Callable[[], Statement]:
        return partial(rows_statement, self.plan, self.scope.device_keys, self._limit)

    async def _fetch(self, make: Callable[[], Statement]) -> list[asyncpg.Record]:
        statement = await aside(make, len(self.plan.edges))
        rows = await self.connection.fetch(statement.text, *statement.values)
        self._refuse_too_many(rows)
        return rows

    def _refuse_too_many(self, rows: Sized) -> None:
        if len(rows) >= self._limit:
            raise too_large(f"more than {self.max_values:,} values", self.max_values + 1, self.max_values)

    async def _merged(self) -> Merged:
        """What all statements say."""
        question, keys = self.plan.question, self.scope.device_keys
        merged = Merged(question, self.before)
        async for (some,) in portions((await self._rows()).parts(rows_of(question.values_per_bucket)), 1):
            merged.add_rows(some)
        if question.chosen(Family.SPREAD):
            rows = await self._fetch(partial(spread_statement, question, self.plan.edges, keys, self._limit))
            async for records in self._portions(rows):
                merged.add_spread(records)
        for history in self._histories():
            rows = await self._fetch(partial(steps_statement, history, self.plan.edges, self._limit))
            async for records in portions(rows):
                merged.add_steps(history.metric, records)
        return merged

    def _histories(self) -> Iterator[History]:
        question, around = self.plan.question, Surroundings.of(self.plan.question, self.scope)
        readings = Segment("readings", ((question.start, question.end),))
        for name in question.chosen(*_HISTORY):
            metric = question.domain.metrics[name]
            segments = self.plan.changes if metric.kind is Kind.COUNTER else [readings]
            yield History(question, metric, segments, around, self.scope.device_keys)

    async def _points(self, merged: Merged) -> list[Point]:
        least, points = self.plan.question.min_coverage, merged.points(self.expected)
        return await collected(points if least is None else withheld(points, least))

    async def _settled_until(self, known: Mapping[str, datetime]) -> datetime | None:
        """What is known of each metric already, or now found."""
        found = []
        for history in self._histories():
            if history.metric.kind is not Kind.STATE:
                statement = known_statement(history)
                of_metric = known.get(history.metric.name)
                found.append(of_metric or await self.connection.fetchval(statement.text, *statement.values))
        return min(found, default=None)

    def _portions(self, rows: Sequence[asyncpg.Record]) -> AsyncIterator[list[asyncpg.Record]]:
        return portions(rows, rows_of(self.plan.question.values_per_bucket))

    async def _filled(self, points: list[Point], merged: Merged) -> list[Point]:
        outside = await self._outside() if self.plan.question.max_gap else []
        named = await named_groups(self.connection, self.plan.question, self.scope.device_keys)
        filling = Filling(self.plan.question, self.plan.edges, self.expected, merged.intervals)
        async for some in portions(points):
            filling.add(some)
        async for part in portions(outside):
            filling.add_outside(part)
        filling.add_groups(named)
        if len(filling) >= self._limit * len(self.plan.question.metrics):
            values = len(filling) * self.plan.question.values_per_bucket // len(self.plan.question.metrics)
            raise too_large(f"{values:,} values", values, self.max_values)
        return await collected(filling.points())

    async def _outside(self) -> list[tuple[datetime, Point]]:
        """Points of the time before and after the range from which a value may reach into it, also of the parts of the
        outermost buckets that the range cuts off.
        """
        question, edges = self.plan.question, self.plan.edges
        assert question.max_gap is not None
        found = []
        if question.fill in REACHING:
            first = outer_edge(question, edges[0] - question.max_gap)
            found += await self._points_between(first, question.start)
        if question.fill is Fill.LINEAR and question.end < question.now:
            last = outer_edge(question, edges[-1] + question.max_gap)
            found += await self._points_between(question.end, min(last, question.now))
        return found

    async def _points_between(self, start: datetime, end: datetime) -> list[tuple[datetime, Point]]:
        asked = replace(self.plan.question, start=start, end=end, fill=Fill.NONE)
        try:
            series = await answer(self.connection, asked, self.max_values, bound=self.bound)
        except NotKept as error:
            raise out_of_reach(error, asked) from None
        edges, points = series.plan.edges, await collected(series.each_point())
        return [(edges[point.bucket - 1], point) async for some in portions(points) for point in some]


async def fetch(cursor: Cursor, size: int) -> list[asyncpg.Record]:
    """The next rows; none at the end."""
    rows: list[asyncpg.Record] = await cursor.fetch(size)
    return rows


def _is_plain(question: Question) -> bool:
    aggregates = chain.from_iterable(question.aggregates.values())
    return (
        question.fill is Fill.NONE
        and question.min_coverage is None
        and all(each.family is Family.ROWS for each in aggregates)
    )
