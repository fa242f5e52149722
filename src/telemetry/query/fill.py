"""Buckets without values, filled as asked. Times are those of the buckets' starts.

What is there, what is missing and what was filled in is decided for each aggregate: time that was lived through has a
`time_avg` where no reading gives an `avg`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from telemetry.domains import Metric
from telemetry.query.aggregates import Aggregate, Family
from telemetry.query.coverage import Expected, Group
from telemetry.query.points import Point, order
from telemetry.query.question import Fill, Question

_LEAST = timedelta(microseconds=1)

Known = Sequence[tuple[datetime, Any]]
"""Values of one aggregate that may reach into other buckets: starts of buckets and values, in order of time."""


def withheld(points: Iterable[Point], least: float) -> list[Point]:
    """The points with null in place of values whose coverage is known to be less."""
    return [
        point._replace(values=[None] * len(point.values)) if _is_withheld(point, least) else point for point in points
    ]


def filled(
    question: Question,
    edges: Sequence[datetime],
    points: Sequence[Point],
    outside: Iterable[tuple[datetime, Point]],
    expected: Expected,
    intervals: Mapping[Group, float | None],
    named: Iterable[Group],
) -> list[Point]:
    """A point for every bucket, group and metric, in which every aggregate that is missing is filled.

    A group is any that has a point, and any that is `named`. Buckets that have not begun have null. Values
    that were withheld neither reach into other buckets nor are replaced.

    Args:
        outside: points near the range with the start of their bucket, which may reach into it.
    """
    there = {(point.bucket, point.group, point.metric): point for point in points}
    known = _known(edges, points, outside)
    for group in dict.fromkeys([*named, *(point.group for point in points), *(key[0] for key in known)]):
        for position, metric in enumerate(question.metrics):
            reaching = [known.get((group, position, number), ()) for number in range(len(_asked(question, metric)))]
            for bucket, start in enumerate(edges[:-1], 1):
                point = there.get((bucket, group, position))
                if point is None:
                    coverage = expected.coverage(bucket, metric.name, group, intervals.get(group), 0)
                    values = _nothing(question, metric, start)
                    point = Point(bucket, group, position, values, 0, coverage)
                elif question.min_coverage is not None and _is_withheld(point, question.min_coverage):
                    continue
                there[bucket, group, position] = _completed(question, metric, start, point, reaching)
    return [there[key] for key in sorted(there, key=order)]


def _is_withheld(point: Point, least: float) -> bool:
    return point.coverage is not None and point.coverage < least


def _asked(question: Question, metric: Metric) -> Sequence[Aggregate]:
    return question.aggregates[metric.name]


def _known(
    edges: Sequence[datetime], points: Iterable[Point], outside: Iterable[tuple[datetime, Point]]
) -> dict[tuple[Group, int, int], Known]:
    """By group, position of the metric and position of the aggregate."""
    found: defaultdict[tuple[Group, int, int], dict[datetime, Any]] = defaultdict(dict)
    for start, point in [*((edges[point.bucket - 1], point) for point in points), *outside]:
        for number, value in enumerate(point.values):
            if value is not None:
                # Of a bucket that the range cuts, the part within the range goes first.
                found[point.group, point.metric, number].setdefault(start, value)
    return {key: sorted(reaching.items(), key=lambda one: one[0]) for key, reaching in found.items()}


def _nothing(question: Question, metric: Metric, start: datetime) -> list[Any]:
    """The values of a bucket without readings; how many there are is known once it has begun."""
    has_begun = start <= question.now
    return [0 if aggregate.name == "count" and has_begun else None for aggregate in _asked(question, metric)]


def _completed(question: Question, metric: Metric, start: datetime, point: Point, reaching: Sequence[Known]) -> Point:
    """The point with a value for each aggregate that is missing and can be filled."""
    if start > question.now:
        return point
    values = list(point.values)
    for number, aggregate in enumerate(_asked(question, metric)):
        if values[number] is None and _is_missing(point, aggregate):
            values[number] = _value(question, metric, aggregate, start, reaching[number])
    return point._replace(values=values, filled=values != list(point.values))


def _is_missing(point: Point, aggregate: Aggregate) -> bool:
    """Whether null means that nothing is known; where there are readings it may be an answer (`stddev` of one)."""
    return point.samples == 0 or aggregate.family in (Family.CHANGE, Family.TIME)


def _value(question: Question, metric: Metric, aggregate: Aggregate, start: datetime, known: Known) -> Any:
    if question.fill is Fill.ZERO:
        return 0 if aggregate.is_number(metric) else None
    # A value of the very bucket comes from the part of it that the range cuts off.
    following = bisect_left(known, start, key=lambda one: one[0])
    preceding = bisect_right(known, start, key=lambda one: one[0])
    before = known[preceding - 1] if preceding else None
    after = known[following] if following < len(known) else None
    gap = question.max_gap or timedelta.max
    match question.fill:
        case Fill.LOCF if before is not None and start - before[0] <= gap:
            return before[1]
        case Fill.LINEAR if before is not None and after is not None and after[0] - before[0] <= gap:
            passed = (start - before[0]) / max(after[0] - before[0], _LEAST)
            return before[1] + (after[1] - before[1]) * passed
    return None
