"""A question about time windows, checked: what `GET /v1/{domain}/series` asks, in types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from telemetry.domains import Domain, Metric
from telemetry.errors import InvalidQuery
from telemetry.query.aggregates import Aggregate, choose
from telemetry.query.calendar import Window, parse_window
from telemetry.query.instants import parse_instant, parse_zone


class By(StrEnum):
    """What the rows of a bucket are grouped by, beside the bucket."""

    NONE = "none"
    DEVICE = "device"
    ZONE = "zone"


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
    devices: tuple[str, ...] = field(default=())
    zones: tuple[str, ...] = field(default=())

    @property
    def values_per_bucket(self) -> int:
        """Values that one bucket of one group answers."""
        return sum(len(self.aggregates[metric.name]) for metric in self.metrics)


def understand(domain: Domain, asked: Asked, city_zone: str, now: datetime) -> Question:
    """Checks a question.

    Raises:
        InvalidQuery: naming the first parameter that cannot be answered, and what is allowed.
    """
    metrics = choose_metrics(domain, asked.metric)
    if not metrics:
        raise InvalidQuery("metric", "", "at least one metric is needed", tuple(domain.metrics))
    start, end = parse_range(asked.start, asked.end, now)
    _refuse_filling(asked)
    return Question(
        domain=domain,
        metrics=metrics,
        aggregates=choose(metrics, asked.agg),
        start=start,
        end=end,
        window=parse_window(asked.window),
        zone=parse_zone("tz", asked.tz or city_zone),
        now=now,
        by=_by(asked.by),
        devices=tuple(dict.fromkeys(asked.device)),
        zones=tuple(dict.fromkeys(asked.zone)),
    )


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
    try:
        return By(text)
    except ValueError:
        raise InvalidQuery("by", text, "is no way to group", tuple(By)) from None


def _refuse_filling(asked: Asked) -> None:
    if asked.fill != "none":
        planned = asked.fill in ("null", "zero", "locf", "linear")
        detail = "is not available yet; buckets without rows are absent" if planned else "is no way to fill"
        raise InvalidQuery("fill", asked.fill, detail, ("none",))
    if asked.max_gap is not None:
        raise InvalidQuery("max_gap", asked.max_gap, "is not available yet, because fill is not", ("leave it out",))
