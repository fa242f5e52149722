"""Stretches that grow: the whole span, each part once, the nearest first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from telemetry.query.instants import EARLIEST, LATEST
from telemetry.query.widening import widening

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("start", "end"),
    [
        (NOON, NOON + timedelta(hours=1)),
        (NOON, NOON + DAY),
        (NOON - timedelta(hours=12), NOON + timedelta(hours=12)),
        (NOON - 700 * DAY, NOON),
        (EARLIEST, LATEST),
    ],
)
def test_stretches_are_the_span(start: datetime, end: datetime, backwards: bool) -> None:
    found = [*widening((start, end), backwards=backwards)]
    assert all(first < last for first, last in found)
    assert found[0][0 if not backwards else 1] == (end if backwards else start)
    assert found[0][1] - found[0][0] <= DAY
    assert len(found) <= 10
    for one, other in pairwise(reversed(found) if backwards else found):
        assert one[1] == other[0]
    assert found[-1][1 if not backwards else 0] == (start if backwards else end)


def test_day_is_not_cut() -> None:
    assert [*widening((NOON, NOON + 6 * DAY))] == [
        (NOON, NOON + timedelta(hours=12)),
        (NOON + timedelta(hours=12), NOON + timedelta(days=4, hours=12)),
        (NOON + timedelta(days=4, hours=12), NOON + 6 * DAY),
    ]
    assert [*widening((NOON - 6 * DAY, NOON), backwards=True)] == [
        (NOON - timedelta(hours=12), NOON),
        (NOON - timedelta(days=4, hours=12), NOON - timedelta(hours=12)),
        (NOON - 6 * DAY, NOON - timedelta(days=4, hours=12)),
    ]


def test_empty_span_has_none() -> None:
    assert not [*widening((NOON, NOON))]
