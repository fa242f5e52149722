"""Raw rows as JSON, as lines of CSV or as typed columns: column by column, a portion of rows at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pyarrow as pa

from telemetry.api.blocks import CHUNK, Texts, numbers
from telemetry.api.dialects import Dialect, Lines
from telemetry.api.times import Times
from telemetry.domains import Metric
from telemetry.query.columns import columns_of
from telemetry.query.instants import microseconds
from telemetry.query.turns import rows_of

FIRST = ("time", "received_at", "device_id")
LAST = "attributes"


def json_texts(found: Sequence[asyncpg.Record], metrics: Sequence[Metric], zone: ZoneInfo) -> Iterator[list[str]]:
    """Objects. Attributes stay the text that they are: numbers in it may be greater than any of ours."""
    times, texts = Times(zone), Texts()
    known = "".join(f',"{metric.name}":%s' for metric in metrics)
    row = f'{{"time":"%s","received_at":"%s","device_id":"%s"{known},"{LAST}":%s}}'
    for at, received, ids, values, attributes in _portions(found, metrics):
        cells = [
            numbers(column) if metric.value_type == "number" else map(texts.__getitem__, column)
            for metric, column in zip(metrics, values, strict=True)
        ]
        last = [text or "null" for text in attributes]
        # No id has a character that JSON would escape.
        columns = [times.texts(map(microseconds, at)), times.texts(map(microseconds, received)), ids, *cells, last]
        yield [row % each for each in zip(*columns, strict=True)]


def csv_texts(
    found: Sequence[asyncpg.Record], metrics: Sequence[Metric], zone: ZoneInfo, dialect: Dialect
) -> Iterator[list[str]]:
    """Lines."""
    times = Times(zone)
    for at, received, ids, values, attributes in _portions(found, metrics):
        starts = [dialect.instant(text) for text in times.texts(map(microseconds, at))]
        cells = [
            _numbers(column, dialect) if metric.value_type == "number" else map(dialect.cell, column)
            for metric, column in zip(metrics, values, strict=True)
        ]
        columns: list[Any] = [
            *zip(*starts, strict=True),
            map(dialect.local, times.texts(map(microseconds, received))),
            map(dialect.cell, ids),
            *cells,
            map(dialect.cell, attributes),
        ]
        lines = Lines(dialect)
        lines.write_all(zip(*columns, strict=True))
        yield lines.take()


def batches(found: Sequence[asyncpg.Record], metrics: Sequence[Metric], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Typed columns."""
    for at, received, ids, values, attributes in _portions(found, metrics):
        columns = [at, received, ids, *values, attributes]
        arrays = [pa.array(column, each.type) for column, each in zip(columns, schema, strict=True)]
        yield pa.record_batch(arrays, schema)


def _portions(
    found: Sequence[asyncpg.Record], metrics: Sequence[Metric]
) -> Iterator[tuple[list[Any], list[Any], list[Any], list[list[Any]], list[Any]]]:
    """Time, receipt, device, values by metric and attributes of some rows at a time."""
    size = rows_of(len(FIRST) + len(metrics) + 1, CHUNK)
    for first in range(0, len(found), size):
        time, _, received, device, attributes, *values = columns_of(found[first : first + size])
        yield time, received, device, values, attributes


def _numbers(column: Sequence[float | None], dialect: Dialect) -> list[str]:
    """The cells that `Dialect.cell` makes of numbers one by one."""
    texts = ["" if text == "null" else text for text in json.dumps(column)[1:-1].split(", ")]
    return [text.replace(".", ",") for text in texts] if dialect.is_excel else texts
