"""Instants that are made into text a column at a time are those that are made one by one."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.api.times import Times, seconds_between
from telemetry.query.instants import EARLIEST, LATEST, format_instant, instant, microseconds

ZONES = ("Europe/Paris", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe", "Africa/Monrovia", "UTC")


@pytest.mark.parametrize("zone", ZONES)
@given(column=st.lists(st.integers(0, microseconds(LATEST) - 1), max_size=5))
def test_column_of_instants_has_the_texts_of_its_instants(zone: str, column: list[int]) -> None:
    shown = ZoneInfo(zone)
    assert Times(shown).texts(column) == [format_instant(instant(us), shown) for us in column]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "change",
    [
        datetime(2026, 3, 29, 1, tzinfo=UTC),
        datetime(2026, 10, 25, 1, tzinfo=UTC),
        # The end of an offset of 44 minutes and 30 seconds.
        datetime(1972, 1, 7, 0, 44, 30, tzinfo=UTC),
        EARLIEST,
    ],
)
def test_texts_are_right_around_a_change_of_the_offset(zone: str, change: datetime) -> None:
    shown, around = ZoneInfo(zone), microseconds(change)
    column = [us for step in (1, 1_000, 1_000_000, 30_000_000) for us in (around - step, around, around + step)]
    column = [us for us in column if us >= 0]
    assert Times(shown).texts(column) == [format_instant(instant(us), shown) for us in column]


@given(first=st.integers(0, 2**52), second=st.integers(0, 2**52))
def test_seconds_are_those_of_a_timedelta_and_never_negative(first: int, second: int) -> None:
    assert seconds_between([first], second) == [max(0.0, (instant(second) - instant(first)).total_seconds())]
