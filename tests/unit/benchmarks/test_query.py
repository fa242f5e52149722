from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from tests.benchmarks.latency import differences
from tests.benchmarks.past import Past

HOUR = datetime(2026, 11, 24, 5, tzinfo=UTC)
ANSWER = {"bucket": "2026-11-24T06:00:00+01:00", "samples": 60, "avg": 41.5}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ([{"bucket": HOUR, "samples": 60, "avg": 41.5 * (1 + 1e-14)}], 0),
        ([{"bucket": HOUR, "samples": 60, "avg": 41.5 * (1 + 1e-11)}], 1),
        ([{"bucket": HOUR, "samples": 59, "avg": 41.5}], 1),
        ([{"bucket": HOUR + timedelta(hours=1), "samples": 60, "avg": 41.5}], 2),
        ([], 1),
    ],
)
def test_differences_are_counted_by_bucket(raw: list[dict[str, Any]], expected: int) -> None:
    assert differences([ANSWER], cast(Any, raw)) == expected


def test_past_goes_on_where_it_was_left() -> None:
    past = Past(meters=10, days=3)
    assert past.rows == 43_200
    assert len(past.left(None)) == 3
    assert past.left(past.start + timedelta(days=2) - timedelta(minutes=1)) == [past.end - timedelta(days=1)]
