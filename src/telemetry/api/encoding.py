"""Rows of a series as JSON text, straight from the answer.

The names are the same in every row of a metric, so each metric has a template; labels and groups are made once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from telemetry.api.blocks import Labels, batches_of_points, blocks, is_of_numbers, numbers
from telemetry.domains import Kind
from telemetry.query.coverage import Group
from telemetry.query.points import Point
from telemetry.query.question import By, Fill, Question
from telemetry.query.series import Series

GROUP_NAMES = {By.NONE: "", By.DEVICE: "device_id", By.ZONE: "zone"}


def json_rows(found: Series, separator: str) -> Iterator[list[str]]:
    """One JSON object per row, a portion at a time; a text may have several, with the separator in between."""
    return blocks(found, _Json(found.plan.question, separator)) if is_of_numbers(found) else _rows_of_points(found)


class _Json:
    """How a row of numbers looks as JSON."""

    def __init__(self, question: Question, separator: str) -> None:
        self.separator = separator
        self._question = question
        self._group_name = GROUP_NAMES[question.by]

    def head(self, label: str) -> str:
        return f'{{"bucket":"{label}",'

    def group(self, group: Group) -> str:
        return f'"{self._group_name}":{json.dumps(group)},'

    def metric(self, metric: int) -> str:
        name = self._question.metrics[metric].name
        return f'"metric":"{name}",{json.dumps(self._question.aggregates[name][0].name)}:'

    def behind(self, metric: int) -> Sequence[str]:
        aggregates = self._question.aggregates[self._question.metrics[metric].name]
        return [*(f",{json.dumps(each.name)}:" for each in aggregates[1:]), ',"samples":']

    def numbers(self, column: Sequence[float | None]) -> list[str]:
        return numbers(column)

    def tail(self, samples: int, coverage: float | None, metric: int) -> str:
        quality = ',"quality":null' if self._question.metrics[metric].kind is Kind.COUNTER else ""
        return f'{samples},"coverage":{json.dumps(coverage)}{quality}}}{self.separator}'


def _rows_of_points(found: Series) -> Iterator[list[str]]:
    heads, groups = _Heads(found), _Groups(found.plan.question)
    for points in batches_of_points(found):
        yield list(_texts(found.plan.question, points, heads, groups))


def _texts(question: Question, points: Sequence[Point], heads: _Heads, groups: _Groups) -> Iterator[str]:
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
