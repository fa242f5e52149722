"""Rows of numbers as blocks of text, column by column: a loop over the rows of a large answer takes far longer.

A row is a chain of pieces: head (the bucket), group, each value and what comes behind it, tail (samples, coverage).
Heads, groups and tails are few, so each is made once; numbers are made by the serializer, a column at once. What
remains for each row is to be looked up and joined, which no Python code does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice, repeat
from typing import Any, Protocol

from pydantic_core import to_json

from telemetry.api.labels import DATE, Times, labels
from telemetry.query.columns import Columns
from telemetry.query.coverage import Group, share
from telemetry.query.instants import format_instant
from telemetry.query.points import Point
from telemetry.query.question import By, Question
from telemetry.query.series import Series
from telemetry.query.turns import rows_of

CHUNK = 2_000
"""Rows of the database that are made into text at a time, if they have few values (`rows_at_once`)."""


class Style(Protocol):
    """How a row looks.

    Attributes:
        separator: between two rows.
    """

    separator: str

    def head(self, label: str) -> str:
        """The beginning: the bucket's start, as RFC 3339."""

    def group(self, group: Group) -> str:
        """The group, if there are groups."""

    def metric(self, metric: int) -> str:
        """The metric (by position in the question), up to the first value."""

    def behind(self, metric: int) -> Sequence[str]:
        """What comes behind each value."""

    def numbers(self, column: Sequence[float | None]) -> list[str]:
        """Values as text."""

    def tail(self, samples: int, coverage: float | None, metric: int) -> str:
        """The end, separator included."""


def is_of_numbers(found: Series) -> bool:
    """Whether the answer is as the database sent it, and every value a number."""
    return found.rows is not None and all(metric.value_type == "number" for metric in found.plan.question.metrics)


def blocks(found: Series, style: Style) -> Iterator[list[str]]:
    """The rows, a portion at a time, each time as one text: rows with the separator in between."""
    assert found.rows is not None
    size = rows_at_once(found.plan.question)
    heads = _Heads(found, style)
    makers = [_Metric(found, style, number) for number in range(len(found.plan.question.metrics))]
    for first in range(0, len(found.rows), size):
        rows = found.rows[first : first + size]
        pieces, position = [], 0
        for maker in makers:
            end = position + 1 + maker.width
            pieces += maker.pieces(heads, rows, rows.cells[position:end])
            position = end
        text = "".join(chain.from_iterable(zip(*pieces, strict=False)))
        yield [text.removesuffix(style.separator)] if text else []


def rows_at_once(question: Question) -> int:
    """Rows of the database that are a portion: each has a number of samples and some values for each metric."""
    return rows_of(len(question.metrics) + question.values_per_bucket, CHUNK)


def batches_of_points(found: Series) -> Iterator[Sequence[Point]]:
    """The points of an answer, a portion at a time."""
    question = found.plan.question
    size, points = rows_of(-(-question.values_per_bucket // len(question.metrics))), found.each_point()
    while some := [*islice(points, size)]:
        yield some


def numbers(column: Sequence[float | None]) -> list[str]:
    """Numbers as JSON: the serializer is three times as fast with all of them as `repr` is with each."""
    return to_json(column).decode()[1:-1].split(",")


class Texts(dict[Any, str]):
    """Texts, flags and words as JSON, each made once."""

    def __missing__(self, value: Any) -> str:
        self[value] = text = to_json(value).decode()
        return text


_label = lru_cache(maxsize=20_000)(format_instant)
"""Dashboards ask about the same buckets again and again, and a label takes as long as the rest of a row."""


class Labels(dict[int, str]):
    """The starts of buckets as text, each made once and when it is needed; buckets count from 1."""

    def __init__(self, found: Series) -> None:
        super().__init__()
        self._edges, self._zone = found.plan.edges, found.plan.question.zone

    def __missing__(self, bucket: int) -> str:
        self[bucket] = text = self._text(_label(self._edges[bucket - 1], self._zone))
        return text

    def _text(self, instant: str) -> str:
        return instant


class _Heads:
    """The beginnings of rows."""

    def __init__(self, found: Series, style: Style) -> None:
        self._edges, self._zone = found.plan.edges, found.plan.question.zone
        self._style = style
        self._shapes: dict[tuple[Times, str], tuple[str, list[str]]] = {}

    def of(self, buckets: Sequence[int], behind: str) -> list[str]:
        """Those of some rows in rising order, with a text that all have behind the head."""
        first, last = buckets[0], buckets[-1]
        if last - first > 2 * len(buckets):
            labels_of = (format_instant(self._edges[bucket - 1], self._zone) for bucket in buckets)
            return [self._style.head(label) + behind for label in labels_of]
        every: list[str] = []
        for date, times in labels(self._edges, self._zone, first - 1, last):
            before, after = self._shape(times, behind)
            before += date
            every += [before + each for each in after]
        return every if buckets == [*range(first, last + 1)] else [every[bucket - first] for bucket in buckets]

    def _shape(self, times: Times, behind: str) -> tuple[str, list[str]]:
        """What stands before and behind the date."""
        found = self._shapes.get((times, behind))
        if found is None:
            texts = [self._style.head(DATE + time).partition(DATE) for time in times]
            found = self._shapes[times, behind] = texts[0][0], [after + behind for _, _, after in texts]
        return found


class _Groups(dict[Any, str]):
    """Group and metric of a row, each made once."""

    def __init__(self, style: Style, number: int, question: Question) -> None:
        super().__init__()
        self._style, self._behind, self._named = style, style.metric(number), question.by is not By.NONE

    def __missing__(self, group: Any) -> str:
        self[group] = text = (self._style.group(group) if self._named else "") + self._behind
        return text


Key = tuple[float, float | None, int, Group]
"""What coverage depends on: the bucket's seconds, interval and samples; of a group, bucket, None, samples and group."""


class Coverages(dict[Key, float | None]):
    """The coverage of a metric, each made once: most rows have the same few."""

    def __init__(self, found: Series, number: int) -> None:
        super().__init__()
        self._expected, self._metric = found.expected, found.plan.question.metrics[number].name
        self._is_of_fleets = bool(found.expected.fleets)
        seconds = found.expected.seconds
        self._places = range(len(seconds) + 1) if self._is_of_fleets else [0.0, *seconds]
        self._by_group = found.plan.question.by is not By.NONE and self._is_of_fleets

    def keys_of(self, rows: Columns, samples: Sequence[int]) -> Iterator[Key]:
        """The keys of some rows."""
        groups = rows.groups if self._by_group else repeat(None)
        places = map(self._places.__getitem__, rows.buckets)
        return zip(places, rows.intervals, samples, groups, strict=False)

    def __missing__(self, key: Key) -> float | None:
        place, interval, samples, group = key
        if self._is_of_fleets:
            self[key] = found = self._expected.coverage(int(place), self._metric, group, interval, samples)
        else:
            self[key] = found = share(place, 1 / interval if interval else None, samples)
        return found


class _Tails(dict[Key, str]):
    """Ends of rows, each made once."""

    def __init__(self, coverages: Coverages, style: Style, number: int) -> None:
        super().__init__()
        self._coverages, self._style, self._number = coverages, style, number
        self._before = style.behind(number)[-1]

    def __missing__(self, key: Key) -> str:
        self[key] = text = self._before + self._style.tail(key[2], self._coverages[key], self._number)
        return text


class _Metric:
    """Makes the pieces of one metric's rows."""

    def __init__(self, found: Series, style: Style, number: int) -> None:
        question = found.plan.question
        self.width = len(question.aggregates[question.metrics[number].name])
        self._style = style
        # What is behind the last value begins the tail.
        self._behind = [*style.behind(number)[:-1], None]
        self._groups, self._coverages = _Groups(style, number, question), Coverages(found, number)
        self._tails = _Tails(self._coverages, style, number)

    def pieces(self, heads: _Heads, rows: Columns, cells: Sequence[Sequence[Any]]) -> list[Any]:
        """Columns of pieces; those of a row without samples are empty."""
        samples, *values = cells
        columns: list[Any] = self._beginnings(heads, rows)
        for column, behind in zip(values, self._behind, strict=True):
            columns += [self._style.numbers(column), *([] if behind is None else [repeat(behind)])]
        columns.append(map(self._tails.__getitem__, self._coverages.keys_of(rows, samples)))
        if all(samples):
            return columns
        texts = map("".join, zip(*columns, strict=False))
        return [[text if count else "" for text, count in zip(texts, samples, strict=True)]]

    def _beginnings(self, heads: _Heads, rows: Columns) -> list[Any]:
        """Head and group; in one, where all rows have the same group."""
        groups = set(rows.groups)
        if len(groups) == 1:
            return [heads.of(rows.buckets, self._groups[groups.pop()])]
        return [heads.of(rows.buckets, ""), map(self._groups.__getitem__, rows.groups)]
