"""Late quarters of an hour are looked through in few stretches of time, none of them left out."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from telemetry.query.neighbours import stretches
from telemetry.spans import QUARTER

NOON = datetime(2026, 10, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize("count", [0, 1, 3, 50, 1000, 1001, 5000])
@pytest.mark.parametrize("days", [1, 40, 2000])
def test_few_stretches_hold_all_quarters(count: int, days: int) -> None:
    chance = random.Random(count + days)
    quarters = sorted({NOON + QUARTER * chance.randrange(days * 96) for _ in range(count)})
    found = stretches(quarters)
    assert len(found) <= 4
    assert all(any(since <= each and each + QUARTER <= until for since, until in found) for each in quarters)
    assert all(one[1] < other[0] for one, other in pairwise(found))


def test_years_between_two_quarters_are_not_looked_through() -> None:
    last = NOON + timedelta(days=2000)
    assert stretches([NOON, NOON + 3 * QUARTER, last]) == [(NOON, NOON + 4 * QUARTER), (last, last + QUARTER)]
