"""Lines of CSV (RFC 4180), and the rows of a series as such."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from telemetry.api.encoding import CHUNK, GROUP_NAMES
from telemetry.domains import Kind
from telemetry.query.instants import format_instant
from telemetry.query.question import Fill, Question
from telemetry.query.series import Series


def header(question: Question) -> str:
    """Names of the columns: those of the JSON rows, with every aggregate of every metric."""
    return ",".join([*_first(question), *_aggregates(question), *_last(question)])


def csv_rows(found: Series) -> Iterator[list[str]]:
    """One line per row, some thousand at a time. What a row does not have, or has as null, is empty."""
    question = found.plan.question
    labels = [format_instant(edge, question.zone) for edge in found.plan.edges]
    group_name = GROUP_NAMES[question.by]
    columns = {name: number for number, name in enumerate(_aggregates(question))}
    places = [[columns[each.name] for each in question.aggregates[metric.name]] for metric in question.metrics]
    last = _last(question)
    points = found.points
    for first in range(0, len(points), CHUNK):
        lines = Lines()
        for bucket, group, position, values, samples, coverage, quality, filled in points[first : first + CHUNK]:
            cells = [""] * len(columns)
            for place, value in zip(places[position], values, strict=True):
                cells[place] = cell(value)
            told = {"samples": samples, "coverage": coverage, "quality": quality, "filled": filled}
            named = [group] if group_name else []
            start = [labels[bucket - 1], *named, question.metrics[position].name]
            lines.write([*start, *cells, *(cell(told[name]) for name in last)])
        yield lines.take()


class Lines:
    """Lines of CSV."""

    def __init__(self) -> None:
        self._text = io.StringIO()
        self._writer = csv.writer(self._text)

    def write(self, cells: list[Any]) -> None:
        """Adds a line."""
        self._writer.writerow(cells)

    def take(self) -> list[str]:
        """All lines, as one text without the last line end; none as none."""
        text = self._text.getvalue().removesuffix("\r\n")
        return [text] if text else []


def _first(question: Question) -> list[str]:
    group_name = GROUP_NAMES[question.by]
    return ["bucket", *([group_name] if group_name else []), "metric"]


def _aggregates(question: Question) -> list[str]:
    every = (each.name for metric in question.metrics for each in question.aggregates[metric.name])
    return list(dict.fromkeys(every))


def _last(question: Question) -> list[str]:
    quality = ["quality"] if any(metric.kind is Kind.COUNTER for metric in question.metrics) else []
    return ["samples", "coverage", *quality, *([] if question.fill is Fill.NONE else ["filled"])]


def cell(value: Any) -> str:
    """A value as text: null is empty, what is no text is as in JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
