"""An answer about time windows, whole or in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from telemetry.query.columns import Columns
from telemetry.query.cost import Cost
from telemetry.query.coverage import Expected
from telemetry.query.kept import complete_from
from telemetry.query.plan import Plan
from telemetry.query.points import Point, points_of_rows
from telemetry.query.scope import Scope


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
        settled_until: what ends at or before it cannot be changed by readings that come in time; None where no
            aggregates were asked for that look from one reading to the next.
        rest: what comes after `rows` or `made`, where it is still to be read, within the same snapshot.
    """

    plan: Plan
    expected: Expected
    scope: Scope
    rows: Columns | None = None
    made: Sequence[Point] = ()
    cost: Cost | None = None
    settled_until: datetime | None = None
    rest: AsyncIterator[Series] | None = None

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
        """The rows that are there already, in order of bucket, group and metric, each made when it is taken."""
        if self.rows is None:
            return iter(self.made)
        return points_of_rows(self.plan.question, self.expected, self.rows)

    @cached_property
    def points(self) -> Sequence[Point]:
        """All of them, made at once."""
        return self.made if self.rows is None else list(self.each_point())

    async def parts(self) -> AsyncIterator[Series]:
        """All of the answer part by part, each an answer of its own, in order. Each may take as long as a statement.

        Raises:
            InvalidQuery: the answer has more values than it may: devices that are at home elsewhere report here, too.
        """
        yield replace(self, rest=None)
        if self.rest is not None:
            async for part in self.rest:
                yield part
