"""Buckets without values, filled as asked. Times are those of the buckets' starts."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from telemetry.domains import Metric
from telemetry.query.aggregates import Aggregate
from telemetry.query.coverage import Expected, Group
from telemetry.query.points import Point, order
from telemetry.query.question import By, Fill, Question

_LEAST = timedelta(microseconds=1)

Known = Sequence[tuple[datetime, Sequence[Any]]]
"""Values of one group and metric that may reach into other buckets: starts of buckets and values, in order of time."""


def withheld(points: Iterable[Point], least: float) -> list[Point]:
    """The points with null in place of values whose coverage is known to be less."""
    return [
        point._replace(values=[None] * len(point.values))
        if point.coverage is not None and point.coverage < least
        else point
        for point in points
    ]


def filled(
    question: Question,
    edges: Sequence[datetime],
    points: Sequence[Point],
    outside: Iterable[tuple[datetime, Point]],
    expected: Expected,
    intervals: Mapping[Group, float | None],
) -> list[Point]:
    """The points and one for every bucket, group and metric that has none.

    A group is any that has a point, and any that was asked for by name. Buckets that have not begun have null. Values
    that were withheld neither reach into other buckets nor are replaced.

    Args:
        outside: points near the range with the start of their bucket, which may reach into it.
    """
    there = {(point.bucket, point.group, point.metric): point for point in points}
    known = _known(edges, points, outside)
    for group in _groups(question, known):
        for position, metric in enumerate(question.metrics):
            reaching = known.get((group, position), [])
            for bucket, start in enumerate(edges[:-1], 1):
                if (bucket, group, position) in there:
                    continue
                values = _values(question, metric, start, reaching)
                coverage = expected.coverage(bucket, metric.name, group, intervals.get(group), 0)
                there[bucket, group, position] = Point(
                    bucket, group, position, values, 0, coverage, filled=any(value is not None for value in values)
                )
    return [there[key] for key in sorted(there, key=order)]


def _known(
    edges: Sequence[datetime], points: Iterable[Point], outside: Iterable[tuple[datetime, Point]]
) -> dict[tuple[Group, int], list[tuple[datetime, Sequence[Any]]]]:
    found: defaultdict[tuple[Group, int], dict[datetime, Sequence[Any]]] = defaultdict(dict)
    for start, point in [*((edges[point.bucket - 1], point) for point in points), *outside]:
        if any(value is not None for value in point.values):
            # Of a bucket that the range cuts, the part within the range goes first.
            found[point.group, point.metric].setdefault(start, point.values)
    return {key: sorted(reaching.items(), key=lambda one: one[0]) for key, reaching in found.items()}


def _groups(question: Question, known: Mapping[tuple[Group, int], Any]) -> list[Group]:
    named = {By.NONE: (None,), By.DEVICE: question.devices, By.ZONE: question.zones}[question.by]
    return list(dict.fromkeys([*named, *(group for group, _ in known)]))


def _values(question: Question, metric: Metric, start: datetime, known: Known) -> list[Any]:
    aggregates = question.aggregates[metric.name]
    if start > question.now:
        return [None] * len(aggregates)
    # A value of the very bucket comes from the part of it that the range cuts off.
    following = bisect_left(known, start, key=lambda one: one[0])
    preceding = bisect_right(known, start, key=lambda one: one[0])
    before = known[preceding - 1] if preceding else None
    after = known[following] if following < len(known) else None
    return [
        0 if aggregate.name == "count" else _value(question, metric, aggregate, number, start, before, after)
        for number, aggregate in enumerate(aggregates)
    ]


def _value(
    question: Question,
    metric: Metric,
    aggregate: Aggregate,
    number: int,
    start: datetime,
    before: tuple[datetime, Sequence[Any]] | None,
    after: tuple[datetime, Sequence[Any]] | None,
) -> Any:
    gap = question.max_gap or timedelta.max
    match question.fill:
        case Fill.ZERO:
            return 0 if aggregate.is_number(metric) else None
        case Fill.LOCF if before is not None and start - before[0] <= gap:
            return before[1][number]
        case Fill.LINEAR if before is not None and after is not None and after[0] - before[0] <= gap:
            low, high = before[1][number], after[1][number]
            if low is None or high is None:
                return None
            return low + (high - low) * ((start - before[0]) / max(after[0] - before[0], _LEAST))
    return None
