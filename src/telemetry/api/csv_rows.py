"""The rows of a series as lines of CSV."""

from __future__ import annotations

from collections.abc import Iterator

from telemetry.api.dialects import Dialect, Lines
from telemetry.api.encoding import CHUNK, GROUP_NAMES, Labels
from telemetry.domains import Kind
from telemetry.query.question import Fill, Question
from telemetry.query.series import Series


def header(question: Question, dialect: Dialect) -> str:
    """Names of the columns: those of the JSON rows, with every aggregate of every metric."""
    group_name = GROUP_NAMES[question.by]
    first = ["bucket", *([group_name] if group_name else []), "metric"]
    return dialect.header(*first, *aggregate_names(question), *last_names(question))


def csv_rows(found: Series, dialect: Dialect) -> Iterator[list[str]]:
    """One line per row, some thousand at a time. What a row does not have, or has as null, is empty."""
    question, cell = found.plan.question, dialect.cell
    labels = Labels(found)
    group_name = GROUP_NAMES[question.by]
    columns = {name: number for number, name in enumerate(aggregate_names(question))}
    places = [[columns[each.name] for each in question.aggregates[metric.name]] for metric in question.metrics]
    last = last_names(question)
    points = found.points
    for first in range(0, len(points), CHUNK):
        lines = Lines(dialect)
        for bucket, group, position, values, samples, coverage, quality, filled in points[first : first + CHUNK]:
            cells = [""] * len(columns)
            for place, value in zip(places[position], values, strict=True):
                cells[place] = cell(value)
            told = {"samples": samples, "coverage": coverage, "quality": quality, "filled": filled}
            named = [cell(group)] if group_name else []
            start = [*dialect.instant(labels[bucket]), *named, question.metrics[position].name]
            lines.write([*start, *cells, *(cell(told[name]) for name in last)])
        yield lines.take()


def aggregate_names(question: Question) -> list[str]:
    """Every aggregate of every metric, once."""
    every = (each.name for metric in question.metrics for each in question.aggregates[metric.name])
    return list(dict.fromkeys(every))


def last_names(question: Question) -> list[str]:
    """The columns behind the aggregates."""
    quality = ["quality"] if any(metric.kind is Kind.COUNTER for metric in question.metrics) else []
    return ["samples", "coverage", *quality, *([] if question.fill is Fill.NONE else ["filled"])]
