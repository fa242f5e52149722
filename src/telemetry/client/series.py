"""Aggregated time windows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import TypeAdapter, ValidationError

from telemetry.client.errors import UnexpectedAnswer
from telemetry.client.exchange import Answer, Flow, Question, Request, fetch
from telemetry.client.frames import META, Frame, arrow_table, as_number, cells
from telemetry.client.words import (
    Aggregate,
    By,
    Combine,
    Duration,
    Fill,
    Instant,
    Kind,
    Names,
    Reset,
    parameters,
    segment,
)

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
class SeriesMeta:
    """What an answer is about.

    Attributes:
        start, end: the half-open range.
        source: relations that were read, joined by `+`.
        as_of: instant of the answer; `changes(since=as_of)` tells what changed after it.
        closed_until: buckets that end at or before it are closed; None as long as nothing is.
        plan, rows_read: with `explain=True`, what was read from where, and about how many rows.
    """

    domain: str
    metrics: tuple[SeriesMetric, ...]
    window: str
    tz: str
    start: datetime
    end: datetime
    by: By
    fill: Fill
    source: str
    as_of: datetime
    closed_until: datetime | None = None
    plan: tuple[Mapping[str, Any], ...] | None = None
    rows_read: Mapping[str, int] | None = None


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


_META = TypeAdapter(SeriesMeta)


@dataclass(frozen=True, eq=False)
class Series(Frame):
    """An answer: rows in order of bucket, group and metric, and what they are about.

    Attributes:
        table: the rows as they came.
    """

    meta: SeriesMeta
    table: pa.Table = field(repr=False)

    @property
    def as_of(self) -> datetime:
        """Instant of the answer."""
        return self.meta.as_of

    @property
    def units(self) -> dict[tuple[str, str], str]:
        """Units by metric and aggregate."""
        return {(metric.name, each.name): each.unit for metric in self.meta.metrics for each in metric.aggregates}

    @cached_property
    def rows(self) -> tuple[Bucket, ...]:
        """One for each bucket, group and metric."""
        return tuple(_buckets(self.table, self.meta))

    def __iter__(self) -> Iterator[Bucket]:
        return iter(self.rows)

    def __len__(self) -> int:
        return int(self.table.num_rows)


@dataclass(frozen=True)
class SeriesQuestion(Question[Series]):
    """A question about time windows; `Client.ask` answers it, `Client.download` writes the answer into a file."""

    request: Request


def series(
    domain: str,
    metric: Names,
    *,
    start: Instant = "-24h",
    end: Instant = "now",
    window: str = "1h",
    agg: Aggregate | Sequence[Aggregate] | None = None,
    percentile: float | Sequence[float] | None = None,
    by: By = "none",
    combine: Combine | None = None,
    device: Names | None = None,
    zone: Names | None = None,
    tz: str | None = None,
    fill: Fill = "none",
    max_gap: Duration | None = None,
    min_coverage: float | None = None,
    coverage: bool = False,
    reset: Reset = "zero",
    explain: bool = False,
) -> SeriesQuestion:
    """Aggregated time windows: one row per bucket, group and metric, on the calendar of `tz`.

    Args:
        domain: as `domains` lists them.
        metric: one or several.
        start, end: the half-open range: datetimes with a time zone, or text (`-24h`, `now`, RFC 3339 with an offset).
        window: width of a bucket: `15m`, `1h`, `1d`, `1w`, `1mo`, `1y`, or ISO 8601 (`PT15M`).
        agg: aggregates; default is that of each metric's kind.
        percentile: percentiles of gauges, 0 to 100: 95 is the aggregate `p95`.
        by: one row per bucket for all, for each device or for each zone.
        combine: how several devices become one value.
        device, zone: only these.
        tz: IANA time zone; default is the city's.
        fill: what stands in a bucket without values; `max_gap` says how far a value reaches.
        min_coverage: 0 to 1; values of buckets that are known to have less are None.
        coverage: coverage for zones and for all, too; by device it is always there.
        reset: where a counter that fell went on: from zero, or with the first value that it showed.
        explain: adds the plan to `meta`.
    """
    request = Request(
        f"v1/{segment(domain)}/series",
        parameters(
            metric=metric,
            start=start,
            end=end,
            window=window,
            agg=agg,
            percentile=percentile,
            by=by,
            combine=combine,
            device=device,
            zone=zone,
            tz=tz,
            fill=fill,
            max_gap=max_gap,
            min_coverage=min_coverage,
            coverage=coverage,
            reset=reset,
            explain=explain,
        ),
    )

    def flow() -> Flow[Series]:
        return _read((yield from fetch(request.having(format="arrow"))))

    return SeriesQuestion(flow, request)


def _read(answer: Answer) -> Series:
    table = arrow_table(answer)
    try:
        return Series(_META.validate_json(table.schema.metadata[META]), table)
    except ValidationError as error:
        raise UnexpectedAnswer(f"the answer is none that this client understands: {error}") from error


def _buckets(table: pa.Table, meta: SeriesMeta) -> Iterator[Bucket]:
    columns = {name: cells(table, name) for name in table.column_names}
    readers = {
        metric.name: {
            each.name: _Reader(table.schema.field(each.name).type, metric.kind, each.name) for each in metric.aggregates
        }
        for metric in meta.metrics
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
