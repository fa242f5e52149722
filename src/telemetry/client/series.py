"""Aggregated time windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from telemetry.client.buckets import Bucket, SeriesMetric, buckets
from telemetry.client.errors import UnexpectedAnswer
from telemetry.client.exchange import Answer, Flow, Question, Request, fetch
from telemetry.client.frames import META, Frame, arrow_table
from telemetry.client.parameters import (
    Aggregate,
    By,
    Combine,
    Duration,
    Fill,
    Instant,
    Names,
    Reset,
    parameters,
    segment,
)

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class SeriesMeta:
    """What an answer is about.

    Attributes:
        start, end: the half-open range.
        source: relations that were read, joined by `+`.
        as_of: instant of the answer; `changes(since=as_of)` tells what changed after it.
        closed_until: buckets that end at or before it are closed; None as long as nothing is.
        settled_until: of aggregates that look from one reading to the next: no reading that comes in time changes
            buckets that end at or before it. Before `start` where a device is silent since then; None for other
            aggregates.
        complete_from: before it, what lasts from readings before the range may be missing, for these are not kept any
            more; None where nothing is missing.
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
    settled_until: datetime | None = None
    complete_from: datetime | None = None
    plan: tuple[Mapping[str, Any], ...] | None = None
    rows_read: Mapping[str, int] | None = None


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
        return tuple(buckets(self.table, self.meta.metrics))

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
        f"v1/{segment('domain', domain)}/series",
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
