"""Aggregates: which there are, for which kind of metric, what each is made of, and how devices are combined.

Aggregates are named by text (`avg`, `p95`). Each belongs to a family:
- rows: from counts, sums and extremes of values, which roll-ups keep;
- spread: from all values of a bucket at once (`stddev`, percentiles);
- change: of a counter, from each reading to the next (`increase`, `rate`);
- time: each value weighted by how long it lasted (`time_avg`, `integral`, `share`, `duration`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from telemetry.domains import Kind, Metric
from telemetry.errors import InvalidQuery


class Family(StrEnum):
    """What an aggregate is made of."""

    ROWS = "rows"
    SPREAD = "spread"
    CHANGE = "change"
    TIME = "time"


class Combine(StrEnum):
    """How several devices become one value.

    `rows`: all their values together, each row alike. `sum`, `mean`: first one value for each device, then these.
    """

    ROWS = "rows"
    SUM = "sum"
    MEAN = "mean"


ROWS = ("avg", "min", "max", "sum", "count", "first", "last")
SPREAD = ("stddev", "p50", "p90", "p95", "p99")
CHANGE = ("increase", "rate")
_TOTALS = frozenset({"sum", "increase", "integral", "duration"})
NEEDS_TIME = frozenset({"first", "last"})
"""These depend on when each value was measured, which a roll-up does not keep within its bucket."""

_OF_ROWS = (Combine.ROWS,)
_OF_DEVICES = (Combine.SUM, Combine.MEAN)
_COMBINE: Mapping[str, tuple[Combine, ...]] = {
    "avg": (Combine.ROWS, Combine.SUM, Combine.MEAN),
    "increase": _OF_DEVICES,
    "rate": _OF_DEVICES,
    "integral": _OF_DEVICES,
    "duration": _OF_DEVICES,
    "time_avg": (Combine.MEAN, Combine.SUM),
    "share": (Combine.MEAN, Combine.SUM),
}
"""The ways that make sense, the default first; the others are of rows."""

PERCENTILE_DECIMALS = 4
_PERCENTILE = re.compile(
    rf"p(\d{{1,2}}(?:\.\d{{1,{PERCENTILE_DECIMALS}}})?|100(?:\.0{{1,{PERCENTILE_DECIMALS}}})?)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One number, or one state, made of the values in a bucket.

    Attributes:
        fraction: of a percentile, 0 to 1.
    """

    name: str
    family: Family
    combine: Combine
    fraction: float | None = None

    def unit(self, metric: Metric) -> str:
        """Unit of the aggregate of a metric, UCUM-like."""
        match self.name:
            case "count" | "share":
                return "1"
            case "duration":
                return "s"
            case "rate":
                return f"{metric.unit}/h"
            case "integral":
                return f"{metric.unit}.h"
        return metric.unit

    @property
    def is_total(self) -> bool:
        """Whether a bucket's value grows with its length, so that it must not stand in another bucket as well."""
        return self.name in _TOTALS

    def is_number(self, metric: Metric) -> bool:
        """Whether its values can be calculated with."""
        if self.name in ("first", "last"):
            return metric.value_type == "number"
        return metric.value_type != "enum" or self.name == "count"


def available(metric: Metric) -> tuple[str, ...]:
    """The aggregates that a metric's kind has; of percentiles the usual ones."""
    match metric.kind:
        case Kind.GAUGE:
            return (*ROWS, *SPREAD, "time_avg", "integral")
        case Kind.COUNTER:
            return (*CHANGE, *ROWS)
    timed = ("share", "duration", "time_avg") if metric.value_type == "boolean" else ("share", "duration")
    return (*timed, "count", "first", "last")


def choose(
    metrics: Iterable[Metric], asked: Iterable[str], combine: str | None = None
) -> dict[str, tuple[Aggregate, ...]]:
    """The aggregates of each metric: those asked for, else the metric's default.

    Raises:
        InvalidQuery: one is unknown, or makes no sense for the kind of a metric or for the way to combine devices.
    """
    names = tuple(dict.fromkeys(map(_shortest, asked)))
    return {
        metric.name: tuple(_aggregate(metric, name, combine) for name in names or (metric.default_aggregate,))
        for metric in metrics
    }


def percentile_name(percentile: float) -> str:
    """The name of a percentile, 0 to 100 with at most `PERCENTILE_DECIMALS` decimals."""
    return f"p{percentile:g}"


def _shortest(name: str) -> str:
    """Of the ways to write a percentile (`p5`, `p05`, `p5.0`) the shortest, so that it is one column."""
    percentile = _PERCENTILE.fullmatch(name)
    return percentile_name(float(percentile[1])) if percentile else name


def _aggregate(metric: Metric, name: str, combine: str | None) -> Aggregate:
    percentile = _PERCENTILE.fullmatch(name)
    if name not in available(metric) and not (percentile and metric.kind is Kind.GAUGE):
        raise _refusal(metric, name, known=bool(percentile))
    fraction = float(percentile[1]) / 100 if percentile else None
    return Aggregate(name, _family(name, percentile is not None), _combine(name, combine), fraction)


def _family(name: str, is_percentile: bool) -> Family:
    if is_percentile or name in SPREAD:
        return Family.SPREAD
    if name in CHANGE:
        return Family.CHANGE
    return Family.ROWS if name in ROWS else Family.TIME


def _combine(name: str, asked: str | None) -> Combine:
    ways = _COMBINE.get(name, _OF_ROWS)
    if asked is None:
        return ways[0]
    if asked not in Combine.__members__.values():
        raise InvalidQuery("combine", asked, "is no way to combine devices", tuple(Combine))
    if asked not in ways:
        raise InvalidQuery("combine", asked, f"does not fit {name}", tuple(ways))
    return Combine(asked)


def _refusal(metric: Metric, name: str, known: bool) -> InvalidQuery:
    names = available(metric)
    if known or name in (*ROWS, *SPREAD, *CHANGE, "time_avg", "integral", "share", "duration"):
        detail = f"{metric.name} is a {metric.kind}, which has no {name}; ask for one of {', '.join(names)}"
    else:
        detail = f"there is no aggregate of that name; ask for one of {', '.join(names)}"
    return InvalidQuery("agg", name, detail, names)
