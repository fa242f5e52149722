"""Buckets without values, filled as asked. Times are those of the buckets' starts.

What is there, what is missing and what was filled in is decided for each aggregate: time that was lived through has a
`time_avg` where no reading gives an `avg`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from telemetry.domains import Metric
from telemetry.query.aggregates import Aggregate, Family
from telemetry.query.coverage import Expected, Group
from telemetry.query.points import Point, in_order
from telemetry.query.question import Fill, Question
from telemetry.query.size import REACHING

_LEAST = timedelta(microseconds=1)

Place = tuple[Group, int, int]
"""An aggregate of a group: position of the metric, and of the aggregate among the metric's."""


def withheld(points: Iterable[Point], least: float) -> Iterator[Point]:
    """The points with null in place of values whose coverage is known to be less."""
    for point in points:
        yield point._replace(values=[None] * len(point.values)) if _is_withheld(point, least) else point


class _Known:
    """Values of one aggregate that may reach into other buckets, by the starts of these."""

    def __init__(self, values: Mapping[datetime, Any]) -> None:
        self._values, self._starts = values, sorted(values)

    def before(self, start: datetime) -> tuple[datetime, Any] | None:
        """The last one up to an instant; one of the very instant is of the part of a bucket that the range cuts off."""
        position = bisect_right(self._starts, start)
        return self._at(position - 1) if position else None

    def after(self, start: datetime) -> tuple[datetime, Any] | None:
        """The first one from an instant on."""
        position = bisect_left(self._starts, start)
        return self._at(position) if position < len(self._starts) else None

    def _at(self, position: int) -> tuple[datetime, Any]:
        start = self._starts[position]
        return start, self._values[start]


@dataclass
class Filling:
    """Completes an answer: takes the points that there are, and makes those that are missing."""

    question: Question
    edges: Sequence[datetime]
    expected: Expected
    intervals: Mapping[Group, float | None]
    _there: dict[tuple[int, Group, int], Point] = field(default_factory=dict)
    _groups: dict[Group, None] = field(default_factory=dict)
    _values: defaultdict[Place, dict[datetime, Any]] = field(default_factory=lambda: defaultdict(dict))
    _known: dict[Place, _Known] = field(default_factory=dict)

    def add(self, points: Iterable[Point]) -> None:
        """Takes points of the answer; all of them come before those from outside."""
        for point in points:
            self._there[point.bucket, point.group, point.metric] = point
            self._groups[point.group] = None
            self._add(self.edges[point.bucket - 1], point)

    def add_outside(self, outside: Iterable[tuple[datetime, Point]]) -> None:
        """Takes points near the range with the start of their bucket, which may reach into it."""
        for start, point in outside:
            if any(value is not None for value in point.values):
                self._groups[point.group] = None
                self._add(start, point)

    def add_groups(self, named: Iterable[Group]) -> None:
        """Takes groups that are there although they may have no point."""
        self._groups.update(dict.fromkeys(named))

    def __len__(self) -> int:
        """How many points there will be."""
        return (len(self.edges) - 1) * len(self._groups) * len(self.question.metrics)

    def points(self) -> Iterator[Point]:
        """One for every bucket, group and metric, in this order, in which every aggregate that is missing is filled.

        Buckets that have not begun have null. Values that were withheld neither reach into other buckets nor are
        replaced.
        """
        groups = in_order(self._groups)
        for bucket, start in enumerate(islice(self.edges, len(self.edges) - 1), 1):
            for group in groups:
                for position, metric in enumerate(self.question.metrics):
                    yield self._point(bucket, start, group, position, metric)

    def _add(self, start: datetime, point: Point) -> None:
        if self.question.fill not in REACHING:
            return
        for number, value in enumerate(point.values):
            if value is not None:
                # Of a bucket that the range cuts, the part within the range goes first.
                self._values[point.group, point.metric, number].setdefault(start, value)

    def _point(self, bucket: int, start: datetime, group: Group, position: int, metric: Metric) -> Point:
        question, point = self.question, self._there.pop((bucket, group, position), None)
        if point is None:
            coverage = self.expected.coverage(bucket, metric.name, group, self.intervals.get(group), 0)
            point = Point(bucket, group, position, _nothing(question, metric, start), 0, coverage)
        elif question.min_coverage is not None and _is_withheld(point, question.min_coverage):
            return point
        return self._completed(metric, start, point)

    def _completed(self, metric: Metric, start: datetime, point: Point) -> Point:
        """The point with a value for each aggregate that is missing and can be filled."""
        if start > self.question.now:
            return point
        values = list(point.values)
        for number, aggregate in enumerate(self.question.aggregates[metric.name]):
            if values[number] is None and _is_missing(point, aggregate):
                values[number] = self._value(metric, aggregate, start, (point.group, point.metric, number))
        return point._replace(values=values, filled=values != list(point.values))

    def _value(self, metric: Metric, aggregate: Aggregate, start: datetime, place: Place) -> Any:
        question = self.question
        if question.fill is Fill.ZERO:
            return 0 if aggregate.is_number(metric) else None
        if place not in self._known:
            self._known[place] = _Known(self._values.get(place, {}))
        known = self._known[place]
        before, after = known.before(start), known.after(start)
        gap = question.max_gap or timedelta.max
        match question.fill:
            case Fill.LOCF if before is not None and start - before[0] <= gap:
                return before[1]
            case Fill.LINEAR if before is not None and after is not None and after[0] - before[0] <= gap:
                passed = (start - before[0]) / max(after[0] - before[0], _LEAST)
                return before[1] + (after[1] - before[1]) * passed
        return None


def _is_withheld(point: Point, least: float) -> bool:
    return point.coverage is not None and point.coverage < least


def _nothing(question: Question, metric: Metric, start: datetime) -> list[Any]:
    """The values of a bucket without readings; how many there are is known once it has begun."""
    has_begun = start <= question.now
    return [0 if each.name == "count" and has_begun else None for each in question.aggregates[metric.name]]


def _is_missing(point: Point, aggregate: Aggregate) -> bool:
    """Whether null means that nothing is known; where there are readings it may be an answer (`stddev` of one)."""
    return point.samples == 0 or aggregate.family in (Family.CHANGE, Family.TIME)
