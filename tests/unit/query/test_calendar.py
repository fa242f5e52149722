"""Windows of a calendar, against days and hours that can be looked up."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.errors import InvalidQuery
from telemetry.query.calendar import bucket_edges, has_one_midnight, midnight, parse_window
from telemetry.query.instants import format_instant
from tests.integration.query.rows import bucket_start

PARIS = ZoneInfo("Europe/Paris")
ZONES = (
    "Europe/Paris",
    "UTC",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "America/Havana",
    "Atlantic/Azores",
    "Pacific/Apia",
    "Africa/Cairo",
)
WINDOWS = ("1m", "5m", "15m", "45m", "1h", "3h", "8h", "12h", "1d", "1w", "1mo", "1y")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def labels(window: str, start: str, end: str, zone: str) -> list[str]:
    edges = bucket_edges(parse_window(window), at(start), at(end), ZoneInfo(zone))
    return [format_instant(edge, ZoneInfo(zone)) for edge in edges]


@pytest.mark.parametrize(
    ("day", "start", "end", "hours"),
    [
        ("2025-10-26", "2025-10-25T22:00:00Z", "2025-10-26T23:00:00Z", 25),
        ("2026-03-29", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", 23),
        ("2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", 25),
        ("2027-03-28", "2027-03-27T23:00:00Z", "2027-03-28T22:00:00Z", 23),
    ],
)
def test_day_in_paris_begins_ends_and_has_its_hours(day: str, start: str, end: str, hours: int) -> None:
    noon = datetime.combine(date.fromisoformat(day), datetime.min.time(), PARIS) + timedelta(hours=12)
    edges = bucket_edges(parse_window("1d"), noon, noon + timedelta(hours=1), PARIS)
    assert edges == [at(start), at(end)]
    assert len(bucket_edges(parse_window("1h"), edges[0], edges[1], PARIS)) - 1 == hours


def test_repeated_hour_has_two_labels() -> None:
    assert labels("1h", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "Europe/Paris") == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T03:00:00+01:00",
    ]


@pytest.mark.parametrize(
    ("zone", "window", "start", "end", "wanted"),
    [
        # The clocks go back from three to two: windows up to an hour have both passes …
        ("Europe/Paris", "1h", "2026-10-24T23:00Z", "2026-10-25T02:00Z", "01:00+02 02:00+02 02:00+01 03:00+01"),
        ("Europe/Paris", "45m", "2026-10-25T00:15Z", "2026-10-25T02:00Z", "02:15+02 02:00+01 02:15+01 03:00+01"),
        # … longer ones hold them.
        ("Europe/Paris", "2h", "2026-10-24T22:00Z", "2026-10-25T03:00Z", "00:00+02 02:00+02 04:00+01"),
        ("Europe/Paris", "3h", "2026-10-24T22:00Z", "2026-10-25T03:00Z", "00:00+02 03:00+01 06:00+01"),
        ("Europe/Paris", "6h", "2026-10-24T22:00Z", "2026-10-25T12:00Z", "00:00+02 06:00+01 12:00+01 18:00+01"),
        # They go forward from two to three.
        ("Europe/Paris", "1h", "2026-03-29T00:00Z", "2026-03-29T02:00Z", "01:00+01 03:00+02 04:00+02"),
        ("Europe/Paris", "15m", "2026-03-29T00:45Z", "2026-03-29T01:30Z", "01:45+01 03:00+02 03:15+02 03:30+02"),
        ("Europe/Paris", "2h", "2026-03-28T23:00Z", "2026-03-29T02:30Z", "00:00+01 03:00+02 04:00+02 06:00+02"),
        ("Europe/Paris", "4h", "2026-03-28T23:00Z", "2026-03-29T02:30Z", "00:00+01 04:00+02 08:00+02"),
        # Half an hour back, from two to half past one.
        (
            "Australia/Lord_Howe",
            "1h",
            "2026-04-04T13:00Z",
            "2026-04-04T16:30Z",
            "00:00+11 01:00+11 02:00+10:30 03:00+10:30",
        ),
        ("Australia/Lord_Howe", "30m", "2026-04-04T14:30Z", "2026-04-04T15:30Z", "01:30+11 01:30+10:30 02:00+10:30"),
        # At midnight itself: there is no midnight, and there are two.
        ("America/Sao_Paulo", "1h", "2018-11-04T02:00Z", "2018-11-04T04:00Z", "23:00-03 01:00-02 02:00-02"),
        (
            "Africa/Cairo",
            "6h",
            "2026-04-23T16:00Z",
            "2026-04-24T20:00Z",
            "18:00+02 01:00+03 06:00+03 12:00+03 18:00+03 00:00+03",
        ),
        ("America/Havana", "1h", "2026-11-01T04:00Z", "2026-11-01T06:00Z", "00:00-04 00:00-05 01:00-05"),
    ],
)
def test_windows_below_a_day_follow_the_clocks_on_the_wall(
    zone: str, window: str, start: str, end: str, wanted: str
) -> None:
    shown = [label[11:16] + label[19:].removesuffix(":00") for label in labels(window, start, end, zone)]
    assert " ".join(shown) == wanted


@pytest.mark.parametrize(
    ("window", "wanted"),
    [
        ("1w", ["2026-11-23T00:00:00+05:30", "2026-11-30T00:00:00+05:30", "2026-12-07T00:00:00+05:30"]),
        ("1mo", ["2026-11-01T00:00:00+05:30", "2026-12-01T00:00:00+05:30", "2027-01-01T00:00:00+05:30"]),
        ("1y", ["2026-01-01T00:00:00+05:30", "2027-01-01T00:00:00+05:30"]),
    ],
)
def test_longer_windows_are_those_of_the_calendar(window: str, wanted: list[str]) -> None:
    assert labels(window, "2026-11-25T00:00:00Z", "2026-12-01T00:00:00Z", "Asia/Kolkata") == wanted


def test_day_that_a_zone_skipped_is_no_bucket() -> None:
    assert labels("1d", "2011-12-29T20:00:00Z", "2012-01-01T00:00:00Z", "Pacific/Apia") == [
        "2011-12-29T00:00:00-10:00",
        "2011-12-31T00:00:00+14:00",
        "2012-01-01T00:00:00+14:00",
        "2012-01-02T00:00:00+14:00",
    ]


@pytest.mark.parametrize(
    ("zone", "day", "start", "once"),
    [
        ("Europe/Paris", "2026-03-29", "2026-03-28T23:00:00Z", True),
        # Midnight was skipped: the day began at one o'clock.
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z", False),
        # Midnight came twice.
        ("America/Havana", "2026-11-01", "2026-11-01T04:00:00Z", False),
    ],
)
def test_midnight_is_the_first_instant_of_the_day(zone: str, day: str, start: str, once: bool) -> None:
    assert midnight(date.fromisoformat(day), ZoneInfo(zone)) == at(start)
    assert has_one_midnight(date.fromisoformat(day), ZoneInfo(zone)) is once


@given(
    window=st.sampled_from(WINDOWS),
    zone=st.sampled_from(ZONES),
    start=st.datetimes(datetime(1970, 1, 1), datetime(2037, 1, 1)),  # noqa: DTZ001 - made aware below
    length=st.timedeltas(timedelta(seconds=1), timedelta(days=3)),
)
def test_buckets_hold_the_range_and_belong_to_one_local_day(
    window: str, zone: str, start: datetime, length: timedelta
) -> None:
    first, last = start.replace(tzinfo=UTC), start.replace(tzinfo=UTC) + length
    parsed, where = parse_window(window), ZoneInfo(zone)
    edges = bucket_edges(parsed, first, last, where)
    assert edges[0] <= first < edges[1]
    assert edges[-2] < last <= edges[-1]
    assert all(one < other for one, other in pairwise(edges))
    if parsed.unit == "second":
        days = [
            (one.astimezone(where), (other - timedelta(microseconds=1)).astimezone(where))
            for one, other in pairwise(edges)
        ]
        assert all(one.date() == other.date() for one, other in days)


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("Europe/Paris", "2026-03-29"),
        ("Europe/Paris", "2026-10-25"),
        ("Australia/Lord_Howe", "2026-04-05"),
        ("Australia/Lord_Howe", "2026-10-04"),
        ("America/St_Johns", "2006-04-02"),
        ("America/Havana", "2026-11-01"),
        # Midnight is skipped …
        ("America/Havana", "2026-03-08"),
        ("Africa/Cairo", "2026-04-24"),
        ("Asia/Beirut", "2026-03-29"),
        ("America/Santiago", "2026-09-06"),
        ("America/Sao_Paulo", "2018-11-04"),
        # … and with it the whole day.
        ("Pacific/Apia", "2011-12-30"),
    ],
)
@pytest.mark.parametrize("window", ["15m", "45m", "1h", "90m", "2h", "3h", "6h", "8h", "12h"])
def test_windows_below_a_day_are_those_that_watching_the_clocks_finds(zone: str, day: str, window: str) -> None:
    where, parsed = ZoneInfo(zone), parse_window(window)
    start = midnight(date.fromisoformat(day), where) - timedelta(hours=26)
    end = start + timedelta(hours=78)
    instants = [start + timedelta(minutes=minute) for minute in range(0, 78 * 60, 5)]
    watched = sorted({bucket_start(instant, parsed, where) for instant in instants})
    assert bucket_edges(parsed, start, end, where)[:-1] == watched


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        *(("15m", "15m"), ("60m", "1h"), ("90s", "90s"), ("1s", "1s"), ("1mo", "1mo")),
        *(("PT15M", "15m"), ("PT1H30M", "90m"), ("PT1M30S", "90s"), ("P1D", "1d"), ("P1W", "1w"), ("P1M", "1mo")),
    ],
)
def test_window_is_read_and_shown_in_its_shortest_form(text: str, shown: str) -> None:
    assert str(parse_window(text)) == shown


@pytest.mark.parametrize(
    "text", ["", "h", "0m", "7m", "5h", "2d", "2mo", "-1h", "1H", "P", "PT", "P1DT1H", "1.5h", "٣h", "24h"]
)
def test_window_that_would_not_fit_into_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(InvalidQuery) as refusal:
        parse_window(text)
    assert refusal.value.parameter == "window"
    assert "15m" in refusal.value.allowed
