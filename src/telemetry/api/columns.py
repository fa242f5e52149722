"""Rows of a series as batches of typed columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, compress
from typing import Any

import pyarrow as pa

from telemetry.api.blocks import Coverages, batches_of_points, is_of_numbers, rows_at_once
from telemetry.api.csv_rows import aggregate_names, last_names
from telemetry.api.dialects import cell
from telemetry.api.encoding import GROUP_NAMES
from telemetry.api.tables import VALUE_TYPES, instants, with_meta
from telemetry.domains import Metric
from telemetry.query.columns import Columns
from telemetry.query.points import Point
from telemetry.query.question import By, Question
from telemetry.query.series import Series

_LASTED = pa.map_(pa.string(), pa.float64())
_EXTRA_FIELDS: Mapping[str, pa.Field] = {
    "samples": pa.field("samples", pa.int64(), nullable=False),
    "coverage": pa.field("coverage", pa.float64()),
    "quality": pa.field("quality", pa.string()),
    "filled": pa.field("filled", pa.bool_(), nullable=False),
}


def series_schema(question: Question, meta: Mapping[str, Any]) -> pa.Schema:
    """The columns of a series: those of CSV, with their types."""
    group = GROUP_NAMES[question.by]
    return with_meta(
        [
            pa.field("bucket", instants(question.zone.key), nullable=False),
            *([pa.field(group, pa.string(), nullable=question.by is By.ZONE)] if group else []),
            pa.field("metric", pa.string(), nullable=False),
            *(pa.field(name, _type(question, name)) for name in aggregate_names(question)),
            *(_EXTRA_FIELDS[name] for name in last_names(question)),
        ],
        meta,
    )


def series_batches(found: Series, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows, a portion at a time."""
    if found.rows is not None and is_of_numbers(found):
        size = rows_at_once(found.plan.question)
        for first in range(0, len(found.rows), size):
            yield _batch_of_numbers(found, found.rows[first : first + size], schema)
        return
    for points in batches_of_points(found):
        yield _batch(found, points, schema)


def _batch_of_numbers(found: Series, rows: Columns, schema: pa.Schema) -> pa.RecordBatch:
    """The same without a point per row: column by column, the metrics of a row one after the other."""
    question = found.plan.question
    buckets, names, cells = rows.buckets, rows.groups, rows.cells
    shared = {"bucket": [*map(_Starts(found).__getitem__, buckets)], GROUP_NAMES[question.by]: names}
    of_metrics: list[Mapping[str, Sequence[Any]]] = []
    for number, metric in enumerate(question.metrics):
        aggregates, coverages = question.aggregates[metric.name], Coverages(found, number)
        (samples, *values), cells = cells[: 1 + len(aggregates)], cells[1 + len(aggregates) :]
        keys = coverages.keys_of(rows, samples)
        extras = {"samples": samples, "coverage": [*map(coverages.__getitem__, keys)]}
        found_values = {each.name: column for each, column in zip(aggregates, values, strict=True)}
        of_metrics.append(shared | {"metric": [metric.name] * len(rows)} | found_values | extras)
    arrays = [pa.array(_together(of_metrics, each.name), each.type) for each in schema]
    return pa.record_batch(arrays, schema=schema)


def _together(of_metrics: Sequence[Mapping[str, Sequence[Any]]], name: str) -> list[Any]:
    """A column, with the values of the metrics by turns; of rows without samples there is none."""
    nothing = [None] * len(of_metrics[0]["samples"])
    by_turns = zip(*(columns.get(name, nothing) for columns in of_metrics), strict=True)
    counts = zip(*(columns["samples"] for columns in of_metrics), strict=True)
    return [*compress(chain.from_iterable(by_turns), chain.from_iterable(counts))]


def _batch(found: Series, points: Sequence[Point], schema: pa.Schema) -> pa.RecordBatch:
    question, starts = found.plan.question, _Starts(found)
    buckets, groups, positions, values, samples, coverage, quality, filled = zip(*points, strict=True)
    names = [metric.name for metric in question.metrics]
    extras = {"samples": samples, "coverage": coverage, "quality": quality, "filled": filled}
    columns: dict[str, Sequence[Any]] = {
        "bucket": [starts[bucket] for bucket in buckets],
        GROUP_NAMES[question.by]: groups,
        "metric": [names[position] for position in positions],
        **extras,
    }
    for name in aggregate_names(question):
        columns[name] = _values(question, name, positions, values)
    return pa.record_batch([pa.array(columns[each.name], each.type) for each in schema], schema=schema)


def _values(question: Question, name: str, positions: Sequence[int], values: Sequence[Sequence[Any]]) -> list[Any]:
    """The column of an aggregate; null for metrics that do not have it."""
    places = [
        next((place for place, each in enumerate(question.aggregates[metric.name]) if each.name == name), None)
        for metric in question.metrics
    ]
    taken = zip(positions, values, strict=True)
    cells = [None if (place := places[position]) is None else row[place] for position, row in taken]
    convert = _CONVERTERS.get(_type(question, name))
    return cells if convert is None else [None if value is None else convert(value) for value in cells]


def _type(question: Question, name: str) -> pa.DataType:
    """Type of an aggregate's column: text where the metrics disagree, each value as it is in CSV."""
    types = {
        _type_of(metric, name)
        for metric in question.metrics
        if any(each.name == name for each in question.aggregates[metric.name])
    }
    return types.pop() if len(types) == 1 else pa.string()


def _type_of(metric: Metric, name: str) -> pa.DataType:
    match name:
        case "count":
            return pa.int64()
        case "first" | "last":
            return VALUE_TYPES[metric.value_type]
        case "share" | "duration" if metric.value_type == "enum":
            return _LASTED
    return pa.float64()


_CONVERTERS: Mapping[pa.DataType, Callable[[Any], Any]] = {pa.string(): cell, _LASTED: lambda parts: [*parts.items()]}


class _Starts(dict[int, int]):
    """The starts of buckets in microseconds since 1970; buckets count from 1."""

    def __init__(self, found: Series) -> None:
        super().__init__()
        self._edges = found.plan.edges

    def __missing__(self, bucket: int) -> int:
        self[bucket] = start = self._edges.at(bucket - 1)
        return start
