"""The seconds of each bucket that lie in the range and before now."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from telemetry.domains import load_domains
from telemetry.query.calendar import bucket_edges
from telemetry.query.coverage import _seconds
from telemetry.query.question import Asked, understand

START, END = "2026-10-24T22:10:00Z", "2026-10-25T05:20:00Z"
NOWS = [
    "2026-11-01T00:00",
    "2026-10-25T05:20",
    "2026-10-25T02:00",
    "2026-10-25T00:30",
    "2026-10-24T22:20",
    "2026-10-20T00:00",
]


@pytest.mark.parametrize("window", ["15m", "1h", "6h", "1d"])
@pytest.mark.parametrize("now", NOWS)
def test_seconds_are_those_within_the_range_and_before_now(window: str, now: str) -> None:
    asked = Asked(metric=("power_w",), start=START, end=END, window=window)
    question = understand(load_domains()["lighting"], asked, "Europe/Paris", datetime(2026, 11, 20, tzinfo=UTC))
    question = replace(question, now=datetime.fromisoformat(now).replace(tzinfo=UTC))
    edges = bucket_edges(question.window, question.start, question.end, question.zone)
    last = min(question.end, question.now)
    each = (min(end, last) - max(start, question.start) for start, end in pairwise(edges))
    assert _seconds(question, edges) == [max(timedelta(0), length).total_seconds() for length in each]
