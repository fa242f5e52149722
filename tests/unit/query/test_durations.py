"""Lengths of time as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from telemetry.errors import InvalidQuery
from telemetry.query.durations import parse_duration
from telemetry.query.instants import parse_instant
from telemetry.settings import parse_duration as read_by_settings

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90s", timedelta(seconds=90)),
        ("2h", timedelta(hours=2)),
        ("1w", timedelta(weeks=1)),
        ("PT15M", timedelta(minutes=15)),
        ("P1D", timedelta(days=1)),
        ("P1DT2H3M4S", timedelta(days=1, hours=2, minutes=3, seconds=4)),
    ],
)
def test_duration_is_read(text: str, wanted: timedelta) -> None:
    assert parse_duration("max_gap", text) == wanted


@pytest.mark.parametrize("text", ["90s", "15m", "2h", "7d", "1w"])
def test_short_duration_means_the_same_in_questions_and_in_settings(text: str) -> None:
    assert parse_duration("max_gap", text) == read_by_settings(text)
    assert timedelta(0) < NOON - parse_instant("start", f"-{text}", NOON) == read_by_settings(text)


@pytest.mark.parametrize(
    "text", ["", "h", "1mo", "-1h", "1.5h", "P", "PT", "P1M", "0s", "PT0S", "999999999w", "40000d"]
)
def test_text_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidQuery) as refusal:
        parse_duration("max_gap", text)
    assert (refusal.value.parameter, refusal.value.given) == ("max_gap", text)
