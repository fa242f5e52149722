"""Rows of a series as JSON text, straight from the answer.

The names are the same in every row of a metric, so each metric has a template; labels and groups are made once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import asyncpg
from pydantic_core import to_json

from telemetry.domains import Kind
from telemetry.query.coverage import Group
from telemetry.query.instants import format_instant
from telemetry.query.points import Point
from telemetry.query.question import By, Fill, Question
from telemetry.query.series import Series

CHUNK = 2_000
"""Rows that are made into text at a time; other requests get their turn in between."""
GROUP_NAMES = {By.NONE: "", By.DEVICE: "device_id", By.ZONE: "zone"}


def json_rows(found: Series) -> Iterator[list[str]]:
    """One JSON object per row, some thousand rows at a time."""
    if found.rows is not None and all(metric.value_type == "number" for metric in found.plan.question.metrics):
        return _rows_of_numbers(found, found.rows)
    return _rows_of_points(found)


def _rows_of_numbers(found: Series, rows: Sequence[asyncpg.Record]) -> Iterator[list[str]]:
    """The answers that are large as a rule: column by column, because a loop over rows takes twice as long."""
    question = found.plan.question
    heads, groups = _Heads(found), _Groups(question)
    for first in range(0, len(rows), CHUNK):
        buckets, names, intervals, *cells = zip(*rows[first : first + CHUNK], strict=True)
        shared = [heads[bucket] for bucket in buckets], [groups[name] for name in names]
        by_metric, position = [], 0
        for number, metric in enumerate(question.metrics):
            end = position + 1 + len(question.aggregates[metric.name])
            samples, values = cells[position], [_numbers(column) for column in cells[position + 1 : end]]
            coverage = _coverage(found, metric.name, zip(buckets, names, intervals, samples, strict=True))
            quality = [["null"] * len(buckets)] if metric.kind is Kind.COUNTER else []
            columns = zip(*shared, *values, _numbers(samples), coverage, *quality, strict=True)
            texts = map(_template(question, number).__mod__, columns)
            by_metric.append([text if count else "" for text, count in zip(texts, samples, strict=True)])
            position = end
        yield [text for texts in zip(*by_metric, strict=True) for text in texts if text]


def _numbers(column: Sequence[float | None]) -> list[str]:
    """Numbers as JSON: the serializer is three times as fast with all of them as `repr` is with each."""
    return to_json(column).decode()[1:-1].split(",")


def _coverage(found: Series, metric: str, rows: Iterable[tuple[int, Group, float | None, int]]) -> list[str]:
    """The coverage of each row; most rows of an answer have the same few."""
    seconds, named = found.expected.seconds, found.plan.question.by is not By.NONE
    known: dict[tuple[float, Group, float | None, int], str] = {}
    result = []
    for bucket, name, interval, samples in rows:
        key = (seconds[bucket - 1], None if interval else name, interval, samples)
        if key not in known:
            group = name if named else None
            known[key] = json.dumps(found.expected.coverage(bucket, metric, group, interval, samples))
        result.append(known[key])
    return result


def _rows_of_points(found: Series) -> Iterator[list[str]]:
    points = found.points
    for first in range(0, len(points), CHUNK):
        yield list(_texts(found, points[first : first + CHUNK]))


def _texts(found: Series, points: Sequence[Point]) -> Iterator[str]:
    question = found.plan.question
    heads, groups = _Heads(found), _Groups(question)
    templates = [_template(question, position) for position in range(len(question.metrics))]
    has_quality = [metric.kind is Kind.COUNTER for metric in question.metrics]
    fills = question.fill is not Fill.NONE
    for bucket, group, position, values, samples, coverage, quality, filled in points:
        cells = [
            heads[bucket],
            groups[group],
            *map(_compact, values),
            samples,
            json.dumps(coverage),
            *((json.dumps(quality),) if has_quality[position] else ()),
            *((json.dumps(filled),) if fills else ()),
        ]
        yield templates[position] % tuple(cells)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


class _Groups(dict[Any, str]):
    """Groups as JSON, each made once."""

    def __init__(self, question: Question) -> None:
        super().__init__()
        self._named = question.by is not By.NONE

    def __missing__(self, group: Any) -> str:
        self[group] = text = json.dumps(group) if self._named else ""
        return text


class Labels(dict[int, str]):
    """The starts of buckets as text, each made once and when it is needed; buckets count from 1."""

    def __init__(self, found: Series) -> None:
        super().__init__()
        self._edges, self._zone = found.plan.edges, found.plan.question.zone

    def __missing__(self, bucket: int) -> str:
        self[bucket] = text = self._text(format_instant(self._edges[bucket - 1], self._zone))
        return text

    def _text(self, instant: str) -> str:
        return instant


class _Heads(Labels):
    """The beginnings of the rows of each bucket."""

    def _text(self, instant: str) -> str:
        return f'{{"bucket":"{instant}",'


def _template(question: Question, position: int) -> str:
    """The object of a metric with places for head, group, values, samples, coverage and what else there is."""
    metric = question.metrics[position]
    group_name = GROUP_NAMES[question.by]
    group = f'"{group_name}":%s,' if group_name else "%s"
    values = "".join(f"{json.dumps(each.name)}:%s," for each in question.aggregates[metric.name])
    quality = ',"quality":%s' if metric.kind is Kind.COUNTER else ""
    filled = ',"filled":%s' if question.fill is not Fill.NONE else ""
    return f'%s{group}"metric":"{metric.name}",{values}"samples":%s,"coverage":%s{quality}{filled}}}'
