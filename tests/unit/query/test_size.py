"""How large an answer may be, before anything is read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from telemetry.domains import load_domains
from telemetry.errors import TooLarge
from telemetry.query.calendar import bucket_edges
from telemetry.query.question import Asked, Question, understand
from telemetry.query.size import MANY, Limits, laid_edges, outer_edge

NOW = datetime(2026, 11, 24, 15, 20, tzinfo=UTC)
LIMITS = Limits(5_000_000, 500_000)


def ask(**asked: Any) -> Question:
    form = Asked(**{"metric": ["power_w"], **asked})
    return understand(load_domains()["lighting"], form, "Europe/Paris", NOW)


def test_answer_within_the_limits_is_not_refused() -> None:
    LIMITS.check_buckets(ask(start="-7d", window="1s", agg=["avg", "max"]))
    LIMITS.check_values(ask(start="-7d", window="1m", fill="locf", max_gap="30d"), 10_080, 11)


@pytest.mark.parametrize(
    ("asked", "parameter", "part"),
    [
        (
            {"start": "-7d", "agg": ["avg", "min", "max", "sum", "count", "last", "first", "p50", "p9"]},
            "window",
            "5,443,2",
        ),
        ({"start": "-20d"}, "window", "1,728,000 buckets, and 1,000,000 are allowed"),
        ({"start": "-10s", "fill": "locf", "max_gap": "6d"}, "max_gap", "518,400 values"),
        ({"start": "-10s", "fill": "linear", "max_gap": "36600d"}, "max_gap", "500,000 are allowed"),
    ],
)
def test_larger_answer_is_refused_before_an_edge_is_laid(asked: dict[str, Any], parameter: str, part: str) -> None:
    with pytest.raises(TooLarge, match=part) as refusal:
        LIMITS.check_buckets(ask(window="1s", **asked))
    assert refusal.value.parameter == parameter


def test_reach_counts_for_every_group() -> None:
    with pytest.raises(TooLarge, match="x 12 series"):
        LIMITS.check_values(ask(window="1m", fill="locf", max_gap="30d"), 1_440, 12)


@pytest.mark.asyncio
async def test_many_edges_are_the_same_as_few() -> None:
    question = ask(start="-7h", window="1s")
    edges = await laid_edges(question)
    assert len(edges) - 1 > MANY
    assert edges == bucket_edges(question.window, question.start, question.end, question.zone)


@pytest.mark.parametrize("window", ["15m", "6h", "1d", "1mo"])
def test_outer_edge_is_that_of_all_the_buckets_up_to_it(window: str) -> None:
    question = ask(window=window, start="-2d", end="-1d")
    every = bucket_edges(question.window, datetime(2026, 10, 1, 9, 7, tzinfo=UTC), NOW, question.zone)
    assert outer_edge(question, datetime(2026, 10, 1, 9, 7, tzinfo=UTC)) == every[0]
    assert outer_edge(question, NOW) == every[-1]
    assert outer_edge(question, every[-1]) == every[-1]
