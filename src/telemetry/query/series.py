"""Answering a question about time windows: scope, size, plan, statements, rows; within one snapshot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from itertools import chain

import asyncpg
from asyncpg.cursor import Cursor

from telemetry.domains import Kind
from telemetry.errors import NotKept
from telemetry.query.aggregates import Family
from telemetry.query.columns import Columns
from telemetry.query.cost import Bound, Cost
from telemetry.query.coverage import Expected, find_expected
from telemetry.query.database import Connection
from telemetry.query.fill import Filling, withheld
from telemetry.query.history import History, Surroundings, reach
from telemetry.query.kept import complete_from, out_of_reach, refuse_lost
from telemetry.query.partials import columns_statement, rows_statement
from telemetry.query.plan import Plan, Segment, make_plan
from telemetry.query.points import Merged, Point, points_of_rows
from telemetry.query.question import Fill, Question
from telemetry.query.scope import Scope, find_scope, named_groups
from telemetry.query.size import REACHING, Limits, aside, laid_edges, outer_edge, too_large
from telemetry.query.spread import spread_statement
from telemetry.query.sql import Statement
from telemetry.query.steps import steps_statement
from telemetry.query.turns import collected, portions, rows_of

ONE_ROW = 200_000
"""Cells that an answer may have to come as one row of columns, which is read at once while everybody else waits."""
_MARGIN = timedelta(days=2)
"""Late quarters this far outside the range may lie in a cell that touches it."""
_HISTORY = (Family.CHANGE, Family.TIME)


@dataclass(frozen=True, slots=True)
class Streaming:
    """Leave to read an answer part by part, where the database makes its rows one by one (`Series.rest`).

    Attributes:
        at_once: rows that are read before the answer is given; most answers have no more.
        max_values: an answer read like this may have as many values.
    """

    at_once: int
    max_values: int


@dataclass(frozen=True)
class Series:
    """An answer.

    Attributes:
        plan: how it was found.
        expected: what was to be expected in each bucket.
        scope: the surroundings in which it was found.
        rows: of a question about aggregates of rows alone, which nothing fills or withholds, its rows as the database
            sent them; otherwise None.
        made: the points of every other question.
        cost: what it was estimated to cost; None where that was not bounded.
        settled_until: what ends at or before it cannot be changed by readings that come in time; None where aggregates
            of rows alone were asked for, or no device has a step in the range.
        rest: where the rows after `rows` are still to be read, within the same snapshot (`parts.parts`).
        limit: as many rows, counted from the first, are too many.
    """

    plan: Plan
    expected: Expected
    scope: Scope
    rows: Columns | None = None
    made: Sequence[Point] = ()
    cost: Cost | None = None
    settled_until: datetime | None = None
    rest: Cursor | None = None
    limit: int | None = None

    @property
    def complete_from(self) -> datetime | None:
        """From when on nothing is missing that readings which are gone would tell; see `kept.complete_from`."""
        return complete_from(self.plan, self.scope)

    @property
    def values(self) -> int:
        """Values that are there already: rows, or points, times aggregates."""
        question = self.plan.question
        if self.rows is None:
            return len(self.made) * question.values_per_bucket // len(question.metrics)
        return len(self.rows) * question.values_per_bucket

    def each_point(self) -> Iterator[Point]:
        """The answer's rows in order of bucket, group and metric, each made when it is taken."""
        if self.rows is None:
            return iter(self.made)
        return points_of_rows(self.plan.question, self.expected, self.rows)

    @cached_property
    def points(self) -> Sequence[Point]:
        """All of them, made at once."""
        return self.made if self.rows is None else list(self.each_point())


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
    streaming = streaming if _is_plain(question) else None
    limits = Limits(streaming.max_values if streaming else max_values, max_values)
    limits.check_buckets(question)
    scope = await find_scope(connection, question, _MARGIN + reach(question))
    edges = await laid_edges(question)
    limits.check_values(question, len(edges) - 1, scope.groups)
    make = partial(make_plan, question, edges, scope.late, scope.city_zone, scope.counters_from)
    plan = await aside(make, len(edges))
    refuse_lost(plan, scope)
    cost = None if bound is None else await bound.check(connection, plan, scope.device_keys)
    if streaming and (len(edges) - 1) * scope.groups > streaming.at_once:
        answering = _Answering(connection, plan, scope, streaming.max_values, bound, streaming.at_once)
    else:
        answering = _Answering(connection, plan, scope, max_values, bound)
    return replace(await answering.series(), cost=cost)


@dataclass
class _Answering:
    """One question on its way through its statements."""

    connection: Connection
    plan: Plan
    scope: Scope
    max_values: int
    bound: Bound | None
    at_once: int | None = None

    async def series(self) -> Series:
        question = self.plan.question
        expected = await find_expected(self.connection, self.plan, self.plan.edges, self.scope.device_keys)
        if self.at_once is not None:
            return await self._begun(expected, self.at_once)
        rows = await self._rows()
        if _is_plain(question):
            return Series(self.plan, expected, self.scope, rows)
        merged = Merged(question)
        async for some in portions(rows.parts(rows_of(question.values_per_bucket)), 1):
            merged.add_rows(*some)
        await self._add_others(merged)
        points = await collected(self._judged(merged.points(expected)))
        if question.fill is not Fill.NONE:
            points = await self._filled(points, merged, expected)
        settled_until = None if merged.known is None else min(merged.known, question.end)
        return Series(self.plan, expected, self.scope, made=points, settled_until=settled_until)

    async def _begun(self, expected: Expected, at_once: int) -> Series:
        # Not for small answers: a statement whose rows are fetched in parts has no parallel workers.
        statement = await aside(self._rows_statement(), len(self.plan.edges))
        cursor = await self.connection.cursor(statement.text, *statement.values)
        rows = await cursor.fetch(at_once + 1)
        self._refuse_too_many(rows)
        rest = cursor if len(rows) > at_once else None
        columns = Columns.joined([Columns.of_many(some) async for some in self._portions(rows)])
        return Series(self.plan, expected, self.scope, columns, rest=rest, limit=self._limit)

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
        width = 3 + len(question.metrics) + question.values_per_bucket
        return (len(self.plan.edges) - 1) * self.scope.groups * width

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

    async def _add_others(self, merged: Merged) -> None:
        question, keys = self.plan.question, self.scope.device_keys
        if question.chosen(Family.SPREAD):
            rows = await self._fetch(partial(spread_statement, question, self.plan.edges, keys, self._limit))
            async for some in self._portions(rows):
                merged.add_spread(some)
        around = Surroundings.of(question, self.scope)
        whole = Segment("readings", ((question.start, question.end),))
        for name in question.chosen(*_HISTORY):
            metric = question.domain.metrics[name]
            segments = self.plan.changes if metric.kind is Kind.COUNTER else [whole]
            history = History(question, metric, segments, around, keys)
            rows = await self._fetch(partial(steps_statement, history, self.plan.edges, self._limit))
            async for some in portions(rows):
                merged.add_steps(metric, some)

    def _portions(self, rows: Sequence[asyncpg.Record]) -> AsyncIterator[list[asyncpg.Record]]:
        return portions(rows, rows_of(self.plan.question.values_per_bucket))

    def _judged(self, points: Iterable[Point]) -> Iterable[Point]:
        least = self.plan.question.min_coverage
        return points if least is None else withheld(points, least)

    async def _filled(self, points: list[Point], merged: Merged, expected: Expected) -> list[Point]:
        outside = await self._outside() if self.plan.question.max_gap else []
        named = await named_groups(self.connection, self.plan.question, self.scope.device_keys)
        filling = Filling(self.plan.question, self.plan.edges, expected, merged.intervals)
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


def _is_plain(question: Question) -> bool:
    aggregates = chain.from_iterable(question.aggregates.values())
    return (
        question.fill is Fill.NONE
        and question.min_coverage is None
        and all(each.family is Family.ROWS for each in aggregates)
    )
