"""The rows of a series as lines of CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from telemetry.api.blocks import Labels, batches_of_points, blocks, is_of_numbers
from telemetry.api.dialects import Dialect, Lines
from telemetry.api.encoding import GROUP_NAMES
from telemetry.domains import Kind
from telemetry.query.coverage import Group
from telemetry.query.question import Fill, Question
from telemetry.query.series import Series


def header(question: Question, dialect: Dialect) -> str:
    """Names of the columns: those of the JSON rows, with every aggregate of every metric."""
    group_name = GROUP_NAMES[question.by]
    first = ["bucket", *([group_name] if group_name else []), "metric"]
    return dialect.header(*first, *aggregate_names(question), *last_names(question))


def csv_rows(found: Series, dialect: Dialect) -> Iterator[list[str]]:
    """One line per row, a portion at a time. What a row does not have, or has as null, is empty."""
    return (
        blocks(found, _Csv(found.plan.question, dialect)) if is_of_numbers(found) else _rows_of_points(found, dialect)
    )


class _Csv:
    """How a row of numbers looks as a line."""

    separator = "\r\n"

    def __init__(self, question: Question, dialect: Dialect) -> None:
        self._question, self._dialect = question, dialect
        self._delimiter = dialect.delimiter
        every, self._gaps = aggregate_names(question), []
        for metric in question.metrics:
            places = [every.index(each.name) for each in question.aggregates[metric.name]]
            self._gaps.append([after - before for before, after in pairwise([0, *places, len(every)])])

    def head(self, label: str) -> str:
        return "".join(f"{cell}{self._delimiter}" for cell in self._dialect.instant(label))

    def group(self, group: Group) -> str:
        return self._dialect.quoted(self._dialect.cell(group)) + self._delimiter

    def metric(self, metric: int) -> str:
        return self._question.metrics[metric].name + self._delimiter * (1 + self._gaps[metric][0])

    def behind(self, metric: int) -> Sequence[str]:
        return [self._delimiter * gap for gap in self._gaps[metric][1:]]

    def numbers(self, column: Sequence[float | None]) -> list[str]:
        return self._dialect.numbers(column)

    def tail(self, samples: int, coverage: float | None, metric: int) -> str:
        quality = self._delimiter if "quality" in last_names(self._question) else ""
        return f"{samples}{self._delimiter}{self._dialect.cell(coverage)}{quality}{self.separator}"


def _rows_of_points(found: Series, dialect: Dialect) -> Iterator[list[str]]:
    question, cell = found.plan.question, dialect.cell
    labels = Labels(found)
    group_name = GROUP_NAMES[question.by]
    columns = {name: number for number, name in enumerate(aggregate_names(question))}
    places = [[columns[each.name] for each in question.aggregates[metric.name]] for metric in question.metrics]
    last = last_names(question)
    for points in batches_of_points(found):
        lines = Lines(dialect)
        for bucket, group, position, values, samples, coverage, quality, filled in points:
            cells = [""] * len(columns)
            for place, value in zip(places[position], values, strict=True):
                cells[place] = cell(value)
            extras = {"samples": samples, "coverage": coverage, "quality": quality, "filled": filled}
            named = [cell(group)] if group_name else []
            start = [*dialect.instant(labels[bucket]), *named, question.metrics[position].name]
            lines.write([*start, *cells, *(cell(extras[name]) for name in last)])
        yield lines.take()


def aggregate_names(question: Question) -> list[str]:
    """Every aggregate of every metric, once."""
    every = (each.name for metric in question.metrics for each in question.aggregates[metric.name])
    return list(dict.fromkeys(every))


def last_names(question: Question) -> list[str]:
    """The columns behind the aggregates."""
    quality = ["quality"] if any(metric.kind is Kind.COUNTER for metric in question.metrics) else []
    return ["samples", "coverage", *quality, *([] if question.fill is Fill.NONE else ["filled"])]
