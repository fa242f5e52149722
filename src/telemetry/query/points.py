"""The rows of an answer, made of what the statements of a question found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from telemetry.domains import Kind, Metric
from telemetry.query.aggregates import Aggregate, Combine, Family
from telemetry.query.columns import Columns
from telemetry.query.coverage import Expected, Group
from telemetry.query.question import By, Question
from telemetry.query.steps import QUALITIES


class Point(NamedTuple):
    """One row of an answer.

    Attributes:
        bucket: from 1.
        metric: position in the question.
        values: of the metric's aggregates, in order.
        samples: values of the metric in the bucket; 0 where the row tells only what lasted or was filled in.
        coverage: `samples` as a share of the expected values, where that is known.
        quality: one of `steps.QUALITIES`, of counters.
        filled: whether at least one of the values was filled in.
    """

    bucket: int
    group: Group
    metric: int
    values: Sequence[Any]
    samples: int
    coverage: float | None
    quality: str | None = None
    filled: bool = False


def points_of_rows(question: Question, expected: Expected, rows: Columns) -> Iterator[Point]:
    """The points of a question that asks for aggregates of rows alone, in the order of the rows."""
    layout, position = [], 3
    for number, metric in enumerate(question.metrics):
        width = len(question.aggregates[metric.name])
        layout.append((number, metric.name, position, slice(position + 1, position + 1 + width)))
        position += 1 + width
    anonymous = question.by is By.NONE
    for row in rows.rows():
        group = None if anonymous else row[1]
        for number, name, count, cells in layout:
            if samples := row[count]:
                coverage = expected.coverage(row[0], name, group, row[2], samples)
                yield Point(row[0], group, number, row[cells], samples, coverage)


@dataclass
class _Cell:
    """What is known of one metric in one bucket of one group."""

    samples: int = 0
    values: dict[str, Any] = field(default_factory=dict)
    quality: str | None = None


@dataclass
class Merged:
    """Gathers what several statements say about the same buckets and groups.

    Attributes:
        before: buckets of the answer that lie before those that the statements count from 1.
        known: by metric, up to where no reading to come can change the steps of any device; absent where there is none.
    """

    question: Question
    before: int = 0
    intervals: dict[Group, float | None] = field(default_factory=dict)
    known: dict[str, datetime] = field(default_factory=dict)
    _cells: dict[int, dict[Group, dict[int, _Cell]]] = field(default_factory=dict)

    def add_rows(self, rows: Columns) -> None:
        """Takes the rows of `partials.columns_statement`: counts, and aggregates of rows."""
        chosen = self.question.chosen(Family.ROWS)
        for row in rows.rows():
            values = iter(row[3:])
            for position, metric in enumerate(self.question.metrics):
                samples = next(values)
                found = {each.name: next(values) for each in chosen.get(metric.name, ())}
                if samples:
                    cell = self._cell(row, position)
                    cell.samples = samples
                    cell.values |= found

    def add_spread(self, rows: Iterable[asyncpg.Record]) -> None:
        """Takes the rows of `spread.spread_statement`."""
        chosen = self.question.chosen(Family.SPREAD)
        for row in rows:
            values = iter(row[3:])
            for position, metric in enumerate(self.question.metrics):
                found = {each.name: next(values) for each in chosen.get(metric.name, ())}
                if any(value is not None for value in found.values()):
                    self._cell(row, position).values |= found

    def add_steps(self, metric: Metric, rows: Iterable[asyncpg.Record]) -> None:
        """Takes the rows of `steps.steps_statement` for that metric."""
        position = self.question.metrics.index(metric)
        aggregates = self.question.chosen(Family.CHANGE, Family.TIME)[metric.name]
        for row in rows:
            cell = self._cell(row, position)
            if metric.kind is Kind.STATE:
                cell.values |= _states(metric, aggregates, json.loads(row["seconds"]), json.loads(row["share"]))
            else:
                cell.values |= {each.name: value for each, value in zip(aggregates, row[3:], strict=False)}
                self.known[metric.name] = row["known"]
            if metric.kind is Kind.COUNTER:
                cell.quality = QUALITIES[row["quality"]]

    def points(self, expected: Expected) -> Iterator[Point]:
        """One for each bucket, group and metric about which something is known, in this order; each is told once."""
        # Sorted bucket by bucket: to sort all at once would keep everybody waiting.
        for bucket in sorted(self._cells):
            # Left behind bucket by bucket, too: half a million cells take a while to be taken apart.
            groups = self._cells.pop(bucket)
            for group in in_order(groups):
                for position, cell in sorted(groups[group].items()):
                    yield self._point(bucket, group, position, cell, expected)

    def _point(self, bucket: int, group: Group, position: int, cell: _Cell, expected: Expected) -> Point:
        metric = self.question.metrics[position].name
        coverage = expected.coverage(bucket, metric, group, self.intervals.get(group), cell.samples)
        values = [cell.values.get(each.name, _absent(each)) for each in self.question.aggregates[metric]]
        return Point(bucket, group, position, values, cell.samples, coverage, cell.quality)

    def _cell(self, row: Sequence[Any] | asyncpg.Record, position: int) -> _Cell:
        group = None if self.question.by is By.NONE else row[1]
        self.intervals[group] = row[2]
        cells = self._cells.setdefault(self.before + row[0], {}).setdefault(group, {})
        return cells.setdefault(position, _Cell())


def in_order(groups: Iterable[Group]) -> list[Group]:
    """Groups as answers have them: by name, the nameless one last."""
    return sorted(groups, key=lambda group: (group is None, group or ""))


def _absent(aggregate: Aggregate) -> Any:
    return 0 if aggregate.name == "count" else None


def _states(
    metric: Metric, aggregates: Iterable[Aggregate], seconds: Mapping[str, float], shares: Mapping[str, float]
) -> dict[str, Any]:
    """Of a boolean the part that is true; of an enum every word that occurred."""
    devices = sum(shares.values())
    found: dict[str, Any] = {}
    for aggregate in aggregates:
        parts = seconds if aggregate.name == "duration" else shares
        divisor = devices if aggregate.combine is Combine.MEAN else 1.0
        if metric.value_type == "boolean":
            found[aggregate.name] = parts.get("true", 0.0) / divisor
        else:
            found[aggregate.name] = {word: part / divisor for word, part in sorted(parts.items())}
    return found
