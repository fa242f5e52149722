"""Every cell around some quarters, and each only once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from telemetry.upkeep.cells import Cells

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def at(minutes: int) -> datetime:
    return NOON + timedelta(minutes=minutes)


def test_cells_of_scattered_quarters_are_there_once() -> None:
    quarters = [at(minutes) for minutes in range(0, 600, 30)]
    levels = dict(Cells(quarters, ZoneInfo("UTC")).levels())
    assert len(levels["15m"]) == 20
    assert levels["1h"] == [(at(0), at(600))]
    assert levels["1d"] == [(at(-720), at(720))]


def test_cells_that_are_still_open_are_left_out() -> None:
    levels = dict(Cells([at(0), at(60)], ZoneInfo("UTC")).levels(until=at(75)))
    assert levels == {"15m": [(at(0), at(15)), (at(60), at(75))], "1h": [(at(0), at(60))], "1d": []}


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Paris", datetime(2026, 3, 29, 10, tzinfo=UTC), 23),
        ("Europe/Paris", datetime(2026, 10, 25, tzinfo=UTC), 25),
    ],
)
def test_days_are_those_of_the_calendar(zone: str, day: datetime, hours: int) -> None:
    ((start, end),) = dict(Cells([day], ZoneInfo(zone)).levels())["1d"]
    assert end - start == timedelta(hours=hours)
    assert start.astimezone(ZoneInfo(zone)).hour == 0


def test_hour_that_two_days_share_is_in_both() -> None:
    """Days are made of hours of UTC: the quarter after a midnight at half past is in the hour of the day before."""
    after_midnight = datetime(2026, 11, 20, 18, 30, tzinfo=UTC)
    ((start, end),) = dict(Cells([after_midnight], ZoneInfo("Asia/Kolkata")).levels())["1d"]
    assert (start, end) == (after_midnight - timedelta(days=1), after_midnight + timedelta(days=1))
