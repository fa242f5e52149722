"""Aggregates over the values of a metric in a bucket: which there are, and what each needs from the rows."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from telemetry.domains import Kind, Metric
from telemetry.errors import InvalidQuery


class Aggregate(StrEnum):
    """One number or state made of the values in a bucket."""

    AVG = "avg"
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    COUNT = "count"
    FIRST = "first"
    LAST = "last"


OF_NUMBERS = tuple(Aggregate)
OF_STATES = (Aggregate.COUNT, Aggregate.FIRST, Aggregate.LAST)
NEEDS_TIME = frozenset({Aggregate.FIRST, Aggregate.LAST})
"""These depend on when each value was measured, which a roll-up does not keep within its bucket."""
PLANNED = frozenset(
    {"increase", "rate", "share", "time_avg", "integral", "stddev", "median", "p50", "p90", "p95", "p99"}
)


def available(metric: Metric) -> tuple[Aggregate, ...]:
    """The aggregates that a metric's kind has."""
    return OF_STATES if metric.kind is Kind.STATE else OF_NUMBERS


def choose(metrics: Iterable[Metric], asked: Iterable[str]) -> dict[str, tuple[Aggregate, ...]]:
    """The aggregates of each metric: those asked for, else the metric's default.

    Raises:
        InvalidQuery: one is unknown, not available yet, or makes no sense for the kind of a metric.
    """
    names = tuple(dict.fromkeys(asked))
    return {
        metric.name: tuple(_aggregate(metric, name) for name in names or (metric.default_aggregate,))
        for metric in metrics
    }


def _aggregate(metric: Metric, name: str) -> Aggregate:
    allowed = available(metric)
    if name in allowed:
        return Aggregate(name)
    names = tuple(each.value for each in allowed)
    if name in Aggregate.__members__.values():
        detail = f"{metric.name} is a {metric.kind}, which has no {name}; ask for one of {', '.join(names)}"
    elif name in PLANNED:
        default = f", the default of {metric.name}," if name == metric.default_aggregate else ""
        detail = f"{name}{default} is not available yet; ask for one of {', '.join(names)}"
    else:
        detail = f"there is no aggregate of that name; ask for one of {', '.join(names)}"
    raise InvalidQuery("agg", name, detail, names)
