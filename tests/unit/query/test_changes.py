"""From changed quarters of an hour to the buckets that whoever billed on them asked for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from telemetry.errors import InvalidQuery
from telemetry.query.calendar import parse_window
from telemetry.query.changes import QUARTER, Change, changed_buckets, parse_changes_window

PARIS = ZoneInfo("Europe/Paris")
NOON = datetime(2026, 3, 28, 12, tzinfo=UTC)
LONG_CLOSED = NOON + timedelta(days=400)


def change(start: datetime, closed_until: datetime = LONG_CLOSED, noted: int = 0, late: int = 1) -> Change:
    at = NOON + timedelta(days=10, seconds=noted)
    return Change(start, closed_until, at, at, 1, late, True, 2)


def starts(*quarters: Change, window: str, zone: ZoneInfo = PARIS) -> list[datetime]:
    return [each.start for each in changed_buckets(quarters, parse_window(window), zone)]


def test_quarters_of_a_bucket_are_added_up() -> None:
    quarters = [change(NOON, noted=5, late=3), change(NOON + QUARTER, noted=2, late=4)]
    (found,) = changed_buckets(quarters, parse_window("1h"), PARIS)
    first, last = (NOON + timedelta(days=10, seconds=seconds) for seconds in (2, 5))
    assert (found.start, found.first, found.last) == (NOON, first, last)
    assert (found.changes, found.late, found.merged, found.is_counted) == (2, 7, 4, True)


def test_sum_of_which_a_part_is_not_counted_is_not_counted() -> None:
    quarters = [change(NOON), replace(change(NOON + QUARTER), is_counted=False)]
    (found,) = changed_buckets(quarters, parse_window("1h"), PARIS)
    assert not found.is_counted


def test_days_are_those_of_the_zone_also_where_the_clocks_change() -> None:
    # The day after has 23 hours in Paris, and begins at 23:00 UTC.
    midnight = datetime(2026, 3, 28, 23, tzinfo=UTC)
    quarters = [change(midnight - QUARTER), change(midnight), change(midnight + timedelta(hours=23) - QUARTER)]
    assert starts(*quarters, window="1d") == [midnight - timedelta(hours=24), midnight]
    assert starts(change(midnight + timedelta(hours=23)), window="1d") == [midnight + timedelta(hours=23)]


def test_quarters_far_apart_have_their_own_buckets() -> None:
    far = NOON + timedelta(days=95)
    assert starts(change(NOON), change(far), window="15m") == [NOON, far]
    assert len(starts(change(NOON), change(far), window="1mo")) == 2


def test_quarter_that_an_edge_cuts_changes_both_buckets() -> None:
    # Until 1937 the clocks of Amsterdam were 19 min 32 s ahead.
    quarter = datetime(1930, 1, 1, 11, 30, tzinfo=UTC)
    found = starts(change(quarter), window="1h", zone=ZoneInfo("Europe/Amsterdam"))
    edge = datetime(1930, 1, 1, 11, 40, 28, tzinfo=UTC)
    assert found == [edge - timedelta(hours=1), edge]


def test_bucket_that_was_still_open_has_not_changed() -> None:
    hour_end = NOON + timedelta(hours=1)
    assert starts(change(NOON, closed_until=hour_end - QUARTER), window="1h") == []
    assert starts(change(NOON, closed_until=hour_end), window="1h") == [NOON]


def test_window_below_a_quarter_of_an_hour_is_refused() -> None:
    with pytest.raises(InvalidQuery, match="finer"):
        parse_changes_window("10m")
    assert str(parse_changes_window("PT15M")) == "15m"
