"""Which aggregates a metric has, in which unit, and how devices are combined."""

from __future__ import annotations

import pytest

from telemetry.domains import Metric, load_domains
from telemetry.errors import InvalidQuery
from telemetry.query.aggregates import Aggregate, available, choose

DOMAINS = load_domains()
METRICS = [metric for domain in DOMAINS.values() for metric in domain.metrics.values()]


def one(metric: str, name: str, combine: str | None = None) -> Aggregate:
    (aggregate,) = choose([DOMAINS["lighting"].metrics[metric]], [name], combine)[metric]
    return aggregate


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_has_its_default_and_all_that_it_lists(metric: Metric) -> None:
    (default,) = choose([metric], [])[metric.name]
    assert default.name == metric.default_aggregate
    assert [each.name for each in choose([metric], available(metric))[metric.name]] == list(available(metric))


@pytest.mark.parametrize(
    ("metric", "name", "unit", "combine"),
    [
        ("power_w", "avg", "W", "rows"),
        ("power_w", "count", "1", "rows"),
        ("power_w", "p99.9", "W", "rows"),
        ("power_w", "time_avg", "W", "mean"),
        ("power_w", "integral", "W.h", "sum"),
        ("energy_kwh", "increase", "kWh", "sum"),
        ("energy_kwh", "rate", "kWh/h", "sum"),
        ("lamp_on", "share", "1", "mean"),
        ("fault", "duration", "s", "sum"),
    ],
)
def test_unit_and_way_to_combine_follow_the_aggregate(metric: str, name: str, unit: str, combine: str) -> None:
    aggregate = one(metric, name)
    assert (aggregate.unit(DOMAINS["lighting"].metrics[metric]), aggregate.combine) == (unit, combine)


@pytest.mark.parametrize(("name", "fraction"), [("p0", 0.0), ("p50", 0.5), ("p99.99", 0.9999), ("p100", 1.0)])
def test_percentile_is_read(name: str, fraction: float) -> None:
    assert one("power_w", name).fraction == pytest.approx(fraction)


def test_percentile_is_one_column_however_it_is_written() -> None:
    power = DOMAINS["lighting"].metrics["power_w"]
    asked = ["p5", "p05", "p5.0", "p100.0", "p0.0001", "p99.9999", "p99.9990"]
    names = [each.name for each in choose([power], asked)["power_w"]]
    assert names == ["p5", "p100", "p0.0001", "p99.9999", "p99.999"]


@pytest.mark.parametrize("name", ["p100.1", "p99.99999", "p", "p101", "p-1", "p1e1", "p50.", "P50", "p١", "median", ""])
def test_name_of_no_aggregate_is_refused(name: str) -> None:
    with pytest.raises(InvalidQuery, match="no aggregate of that name"):
        one("power_w", name)
