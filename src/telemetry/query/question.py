"""A question about time windows, checked: what `GET /v1/{domain}/series` asks, in types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar
from zoneinfo import ZoneInfo

from telemetry.domains import Domain, Metric
from telemetry.errors import InvalidQuery, TooLarge
from telemetry.query.aggregates import PERCENTILE_DECIMALS, Aggregate, Family, choose, percentile_name
from telemetry.query.calendar import Window, parse_window
from telemetry.query.durations import parse_duration
from telemetry.query.instants import parse_instant, parse_zone

MAX_VALUES_PER_BUCKET = 400
"""Values that one bucket of one group may have, metrics times aggregates."""
_PERCENTILES = ("50", "95", "99.9")


class By(StrEnum):
    """What the rows of a bucket are grouped by, beside the bucket."""

    NONE = "none"
    DEVICE = "device"
    ZONE = "zone"


class Fill(StrEnum):
    """What stands in a bucket without values.

    `none`: the bucket is absent. `null`: it is there, its aggregates are null. `zero`: numbers are 0. `locf`: the last
    value is carried forward. `linear`: on the line between the values before and after.
    """

    NONE = "none"
    NULL = "null"
    ZERO = "zero"
    LOCF = "locf"
    LINEAR = "linear"


class Reset(StrEnum):
    """Where a counter is believed to go on after it fell: from zero, or with the value that is read first."""

    ZERO = "zero"
    FIRST = "first"


@dataclass(frozen=True, slots=True)
class Asked:
    """The question in the words of the asker; the defaults are those of the HTTP service."""

    metric: Sequence[str] = ()
    agg: Sequence[str] = ()
    start: str = "-24h"
    end: str = "now"
    window: str = "1h"
    tz: str | None = None
    by: str = "none"
    device: Sequence[str] = ()
    zone: Sequence[str] = ()
    fill: str = "none"
    max_gap: str | None = None
    min_coverage: float | None = None
    coverage: bool = False
    percentile: Sequence[float] = ()
    combine: str | None = None
    reset: str = "zero"


@dataclass(frozen=True, slots=True)
class Question:
    """A question that has an answer.

    Attributes:
        metrics: at least one, each once, in the order asked.
        aggregates: by name of the metric.
        start, end: UTC, half-open, not empty.
        zone: whose calendar the buckets follow.
        devices, zones: only these, by id and name; empty for all.
        now: the instant of asking.
        max_gap: how far a value reaches: when it is carried forward, and from one reading to the next when it is
            weighted by time. None is without limit for the former and `neighbours.REACH` for the latter.
        min_coverage: values of buckets with less are withheld.
        coverage: also of groups of devices, which takes a further look at the rows.
    """

    domain: Domain
    metrics: tuple[Metric, ...]
    aggregates: Mapping[str, tuple[Aggregate, ...]]
    start: datetime
    end: datetime
    window: Window
    zone: ZoneInfo
    now: datetime
    by: By = By.NONE
    devices: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    fill: Fill = Fill.NONE
    max_gap: timedelta | None = None
    min_coverage: float | None = None
    coverage: bool = False
    reset: Reset = Reset.ZERO

    @property
    def values_per_bucket(self) -> int:
        """Values that one bucket of one group answers."""
        return sum(len(self.aggregates[metric.name]) for metric in self.metrics)

    def chosen(self, *families: Family) -> dict[str, tuple[Aggregate, ...]]:
        """The aggregates of these families by metric; metrics without one are absent."""
        found = {
            name: tuple(each for each in aggregates if each.family in families)
            for name, aggregates in self.aggregates.items()
        }
        return {name: aggregates for name, aggregates in found.items() if aggregates}


def understand(domain: Domain, asked: Asked, city_zone: str, now: datetime) -> Question:
    """Checks a question.

    Raises:
        InvalidQuery: naming the first parameter that cannot be answered, and what is allowed.
        TooLarge: a bucket would have more than `MAX_VALUES_PER_BUCKET` values.
    """
    metrics = choose_metrics(domain, asked.metric)
    if not metrics:
        raise InvalidQuery("metric", "", "at least one metric is needed", tuple(domain.metrics))
    start, end = parse_range(asked.start, asked.end, now)
    aggregates = choose(metrics, _names(asked), asked.combine)
    question = Question(
        domain=domain,
        metrics=metrics,
        aggregates=aggregates,
        start=start,
        end=end,
        window=parse_window(asked.window),
        zone=parse_zone("tz", city_zone if asked.tz is None else asked.tz),
        now=now,
        by=_by(asked.by),
        devices=tuple(dict.fromkeys(asked.device)),
        zones=tuple(dict.fromkeys(asked.zone)),
        fill=_fill(asked.fill, metrics, aggregates),
        max_gap=None if asked.max_gap is None else parse_duration("max_gap", asked.max_gap),
        min_coverage=_share("min_coverage", asked.min_coverage),
        coverage=asked.coverage or asked.min_coverage is not None,
        reset=_one_of(Reset, "reset", asked.reset, "is no way to go on after a reset"),
    )
    _refuse_more_columns(question)
    return question


def choose_metrics(domain: Domain, names: Sequence[str]) -> tuple[Metric, ...]:
    """The metrics of these names, each once.

    Raises:
        InvalidQuery: the domain has no such metric.
    """
    for name in names:
        if name not in domain.metrics:
            raise InvalidQuery("metric", name, f"{domain.name} has no such metric", tuple(domain.metrics))
    return tuple(domain.metrics[name] for name in dict.fromkeys(names))


def parse_range(start: str, end: str, now: datetime) -> tuple[datetime, datetime]:
    """The half-open range, in UTC.

    Raises:
        InvalidQuery: one of them is no instant, or the range is empty.
    """
    first, last = parse_instant("start", start, now), parse_instant("end", end, now)
    if first >= last:
        raise InvalidQuery("end", end, "must be later than start", ("an instant after start", "now"))
    return first, last


def _by(text: str) -> By:
    return _one_of(By, "by", text, "is no way to group")


def _refuse_more_columns(question: Question) -> None:
    """PostgreSQL has an end to the columns of a result, and each value takes one or two."""
    values = question.values_per_bucket
    if values > MAX_VALUES_PER_BUCKET:
        raise TooLarge(
            "agg",
            values,
            f"{len(question.metrics)} metrics with these aggregates and percentiles are {values:,} values per bucket, "
            f"and {MAX_VALUES_PER_BUCKET:,} are allowed; ask for fewer, or one metric at a time",
            values,
            MAX_VALUES_PER_BUCKET,
        )


def _names(asked: Asked) -> Iterable[str]:
    for percentile in asked.percentile:
        if not 0 <= percentile <= 100:
            raise InvalidQuery("percentile", percentile, "must be between 0 and 100", _PERCENTILES)
        if round(percentile, PERCENTILE_DECIMALS) != percentile:
            detail = f"must have at most {PERCENTILE_DECIMALS} decimals"
            raise InvalidQuery("percentile", percentile, detail, _PERCENTILES)
    return (*asked.agg, *map(percentile_name, asked.percentile))


def _fill(text: str, metrics: Iterable[Metric], aggregates: Mapping[str, tuple[Aggregate, ...]]) -> Fill:
    fill = _one_of(Fill, "fill", text, "is no way to fill")
    if fill not in (Fill.LOCF, Fill.LINEAR):
        return fill
    for metric in metrics:
        for aggregate in aggregates[metric.name]:
            name = f"{aggregate.name} of {metric.name}"
            if aggregate.is_total:
                detail = f"{name} is a total; in a bucket without readings, that of another would be counted twice"
                raise InvalidQuery("fill", text, detail, ("none", "null", "zero"))
            if fill is Fill.LINEAR and not aggregate.is_number(metric):
                detail = f"there is no line between the values of {name}"
                raise InvalidQuery("fill", text, detail, ("none", "null", "zero", "locf"))
    return fill


def _share(parameter: str, value: float | None) -> float | None:
    if value is not None and not 0 <= value <= 1:
        raise InvalidQuery(parameter, value, "must be between 0 and 1", ("0.9",))
    return value


Choice = TypeVar("Choice", bound=StrEnum)


def _one_of(choices: type[Choice], parameter: str, text: str, detail: str) -> Choice:
    try:
        return choices(text)
    except ValueError:
        raise InvalidQuery(parameter, text, detail, tuple(choices)) from None
