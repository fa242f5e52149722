"""A question, checked before anything is asked of the database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from telemetry.domains import load_domains
from telemetry.errors import InvalidQuery, TooLarge
from telemetry.query.question import Asked, Question, understand

NOW = datetime(2026, 11, 24, 15, 20, tzinfo=UTC)
LIGHTING = load_domains()["lighting"]


def ask(**asked: Any) -> Question:
    return understand(LIGHTING, Asked(**{"metric": ["power_w"], **asked}), "Europe/Paris", NOW)


def names(question: Question, metric: str) -> list[str]:
    return [aggregate.name for aggregate in question.aggregates[metric]]


def test_defaults_are_a_day_of_hours_in_the_zone_of_the_city() -> None:
    question = ask()
    assert (question.end - question.start).total_seconds() == 24 * 3600
    assert (str(question.window), question.zone.key, question.by) == ("1h", "Europe/Paris", "none")
    assert names(question, "power_w") == ["avg"]


def test_repeated_names_count_once_in_the_order_asked() -> None:
    question = ask(metric=["voltage_v", "power_w", "voltage_v"], agg=["max", "avg", "max"], device=["b", "a", "b"])
    assert [metric.name for metric in question.metrics] == ["voltage_v", "power_w"]
    assert names(question, "power_w") == ["max", "avg"]
    assert question.devices == ("b", "a")
    assert question.values_per_bucket == 4


@pytest.mark.parametrize(
    ("asked", "parameter"),
    [
        ({"metric": ["fill_level_pct"]}, "metric"),
        ({"agg": ["sum"], "metric": ["fault"]}, "agg"),
        ({"start": "now"}, "end"),
        ({"start": "-1h", "end": "-2h"}, "end"),
        ({"by": "city"}, "by"),
        ({"tz": ""}, "tz"),
    ],
)
def test_refusal_names_the_parameter(asked: dict[str, Any], parameter: str) -> None:
    with pytest.raises(InvalidQuery) as refusal:
        ask(**asked)
    assert refusal.value.parameter == parameter


@pytest.mark.parametrize("fill", ["locf", "linear"])
@pytest.mark.parametrize(
    ("metric", "aggregate"),
    [
        ("power_w", "sum"),
        ("power_w", "integral"),
        ("energy_kwh", "increase"),
        ("lamp_on", "duration"),
    ],
)
def test_total_of_one_bucket_is_not_carried_into_another(metric: str, aggregate: str, fill: str) -> None:
    with pytest.raises(InvalidQuery, match=f"{aggregate} of {metric} is a total") as refusal:
        ask(metric=[metric], agg=["count", aggregate], fill=fill)
    assert (refusal.value.parameter, refusal.value.allowed) == ("fill", ("none", "null", "zero"))
    assert ask(metric=[metric], agg=[aggregate], fill="null").fill == "null"


def test_more_values_per_bucket_than_the_database_has_columns_for_are_refused() -> None:
    gauges = ["power_w", "voltage_v", "current_a", "power_factor"]
    assert ask(metric=gauges, percentile=[number / 10 for number in range(100)]).values_per_bucket == 400
    with pytest.raises(TooLarge, match="404 values per bucket, and 400 are allowed") as refusal:
        ask(metric=gauges, percentile=[number / 10 for number in range(101)])
    assert (refusal.value.parameter, refusal.value.estimate, refusal.value.limit) == ("agg", 404, 400)
