"""The rows of a series."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from telemetry.client.frames import as_number, cells
from telemetry.client.parameters import Combine, Kind

if TYPE_CHECKING:
    import pyarrow as pa

Value: TypeAlias = float | bool | str | Mapping[str, float] | None
"""A number; `first` and `last` of states, a state; `share` and `duration` of words, a number for each word."""


@dataclass(frozen=True, slots=True)
class MadeOf:
    """An aggregate of a metric: its unit, and how several devices became one value."""

    name: str
    unit: str
    combine: Combine


@dataclass(frozen=True, slots=True)
class SeriesMetric:
    """A metric of an answer."""

    name: str
    unit: str
    kind: Kind
    aggregates: tuple[MadeOf, ...]


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket of one group and metric.

    Attributes:
        start: of the bucket, with the offset of the time zone.
        values: by aggregate.
        samples: values of the metric in it.
        coverage: samples as a share of those expected; None where that is not known.
        device_id, zone: the group, if the answer is by device or by zone.
        quality: of counters: `measured`, `interpolated` or `adjusted`.
        filled: nothing was measured; what stands here was filled in.
    """

    start: datetime
    metric: str
    values: Mapping[str, Value]
    samples: int
    coverage: float | None
    device_id: str | None = None
    zone: str | None = None
    quality: str | None = None
    filled: bool = False

    def __getitem__(self, aggregate: str) -> Value:
        return self.values[aggregate]

    @property
    def value(self) -> Value:
        """The value of the only aggregate.

        Raises:
            LookupError: there are several.
        """
        if len(self.values) != 1:
            raise LookupError(
                f"there are {', '.join(self.values)}; take one by its name: bucket['{next(iter(self.values))}']"
            )
        return next(iter(self.values.values()))

    def number(self, aggregate: str | None = None) -> float | None:
        """A value that is a number, of the only aggregate or of the one that is named.

        Raises:
            TypeError: it is a state or has a number for each word.
        """
        value = self.value if aggregate is None else self.values[aggregate]
        return as_number(value, f"{aggregate or next(iter(self.values))} of {self.metric}")


def buckets(table: pa.Table, metrics: Iterable[SeriesMetric]) -> Iterator[Bucket]:
    """One for each row of a table."""
    columns = {name: cells(table, name) for name in table.column_names}
    readers = {
        metric.name: {
            each.name: _Reader(table.schema.field(each.name).type, metric.kind, each.name) for each in metric.aggregates
        }
        for metric in metrics
    }
    named = [name for name in ("samples", "coverage", "device_id", "zone", "quality", "filled") if name in columns]
    told = zip(*(columns[name] for name in named), strict=True)
    for row, (start, metric, more) in enumerate(zip(columns["bucket"], columns["metric"], told, strict=True)):
        values = {name: read(columns[name][row]) for name, read in readers[metric].items()}
        yield Bucket(start, metric, values, **dict(zip(named, more, strict=True)))


class _Reader:
    """Reads the cells of a column, which is text where metrics of several types meet: each value as in CSV."""

    def __init__(self, column: pa.DataType, kind: Kind, aggregate: str) -> None:
        self._is_map = str(column).startswith("map")
        self._is_text = str(column) == "string"
        self._is_state = kind == "state" and aggregate in ("first", "last")

    def __call__(self, cell: Any) -> Value:
        value: Value = cell
        if cell is None:
            return None
        if self._is_map:
            value = dict(cell)
        elif self._is_text:
            value = {"true": True, "false": False}.get(cell, cell) if self._is_state else json.loads(cell)
        return value
