"""Which relation answers which part of a range."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.domains import load_domains
from telemetry.query.calendar import bucket_edges
from telemetry.query.plan import MAX_SEGMENTS, Plan, Relation, Segment, make_plan
from telemetry.query.question import Asked, understand
from telemetry.spans import joined, without

NOW = datetime(2026, 11, 24, 15, 20, tzinfo=UTC)
LIGHTING = load_domains()["lighting"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def plan(
    start: str, end: str, window: str, late: Sequence[str] = (), counters_from: str | None = None, **more: object
) -> Plan:
    asked = Asked(metric=["power_w"], start=start, end=end, window=window, **more)  # type: ignore[arg-type]
    question = understand(LIGHTING, asked, "Europe/Paris", NOW)
    edges = bucket_edges(question.window, question.start, question.end, question.zone)
    since = None if counters_from is None else at(counters_from)
    return make_plan(question, edges, [at(each) for each in late], "Europe/Paris", since)


def read(found: Plan) -> list[tuple[str, str, str]]:
    """Relation, start and end of every span in order of time."""
    return read_segments(found.segments)


def read_segments(segments: Sequence[Segment]) -> list[tuple[str, str, str]]:
    spans = [(segment.relation, *span) for segment in segments for span in segment.spans]
    return [
        (name, f"{start:%dT%H:%M}", f"{end:%dT%H:%M}") for name, start, end in sorted(spans, key=lambda span: span[1])
    ]


def test_whole_days_are_read_from_the_daily_roll_up_and_edges_from_finer_ones() -> None:
    found = plan("2026-11-20T10:50:00Z", "2026-11-23T00:10:00Z", "1d")
    assert read(found) == [
        ("readings", "20T10:50", "20T11:00"),
        ("1h", "20T11:00", "20T23:00"),
        ("1d", "20T23:00", "22T23:00"),
        ("1h", "22T23:00", "23T00:00"),
        ("readings", "23T00:00", "23T00:10"),
    ]
    assert found.source == "lighting_1d+lighting_1h+lighting_readings"


@pytest.mark.parametrize(
    ("window", "tz", "relation"),
    [
        ("1h", "Europe/Paris", "1h"),
        ("15m", "Europe/Paris", "15m"),
        ("45m", "Europe/Paris", "15m"),
        ("5m", "Europe/Paris", "readings"),
        ("1h", "Asia/Kolkata", "15m"),
        ("1h", "Asia/Kathmandu", "15m"),
        ("1d", "Europe/Paris", "1d"),
        ("1w", "Europe/Paris", "1d"),
        ("1d", "UTC", "1h"),
        ("1d", "Asia/Kolkata", "15m"),
    ],
)
def test_widest_roll_up_that_no_bucket_cuts_is_read(window: str, tz: str, relation: str) -> None:
    found = plan("2026-11-01T00:00:00+01:00", "2026-11-15T00:00:00+01:00", window, tz=tz)
    longest = max(found.segments, key=lambda segment: segment.end - segment.start)
    assert longest.relation == relation


def test_counters_are_read_from_their_cells_as_far_back_as_they_have_any() -> None:
    asked = {"start": "2026-11-20T10:50:00Z", "end": "2026-11-23T00:10:00Z", "window": "1d", "agg": ["first"]}
    found = plan(**asked, late=["2026-11-21T12:00:00Z"], counters_from="2026-11-21T10:20:00Z")  # type: ignore[arg-type]
    assert read_segments(found.changes) == [
        ("readings", "20T10:50", "21T10:30"),
        ("counters_15m", "21T10:30", "21T11:00"),
        ("counters_1h", "21T11:00", "21T12:00"),
        ("readings", "21T12:00", "21T12:15"),
        ("counters_15m", "21T12:15", "21T13:00"),
        ("counters_1h", "21T13:00", "21T23:00"),
        ("counters_1d", "21T23:00", "22T23:00"),
        ("counters_1h", "22T23:00", "23T00:00"),
        ("readings", "23T00:00", "23T00:10"),
    ]
    # `first` of several devices needs times, which the other roll-ups do not keep.
    assert {segment.relation for segment in found.segments} == {"readings"}
    for since in (None, "2026-11-24T00:00:00Z"):
        uncovered = plan(**asked, counters_from=since)  # type: ignore[arg-type]
        assert read_segments(uncovered.changes) == [("readings", "20T10:50", "23T00:10")]


def test_late_quarter_is_read_raw_and_its_hour_by_quarters() -> None:
    found = plan("2026-11-20T10:00:00Z", "2026-11-20T13:00:00Z", "1h", late=["2026-11-20T11:15:00Z"])
    assert read(found) == [
        ("1h", "20T10:00", "20T11:00"),
        ("15m", "20T11:00", "20T11:15"),
        ("readings", "20T11:15", "20T11:30"),
        ("15m", "20T11:30", "20T12:00"),
        ("1h", "20T12:00", "20T13:00"),
    ]


def test_present_is_read_raw() -> None:
    assert read(plan("2026-11-24T13:00:00Z", "now", "1h")) == [
        ("1h", "24T13:00", "24T15:00"),
        ("15m", "24T15:00", "24T15:15"),
        ("readings", "24T15:15", "24T15:20"),
    ]


def test_first_of_several_devices_is_read_raw_and_of_each_device_from_roll_ups() -> None:
    assert plan("-3d", "now", "1h", agg=["first"]).source == "lighting_readings"
    assert "lighting_1h" in plan("-3d", "now", "1h", agg=["first"], by="device").source


def test_raw_ends_of_a_range_are_scans_of_their_own() -> None:
    found = plan("2026-11-23T15:05:00Z", "2026-11-24T15:05:00Z", "1h")
    raw = [segment.spans for segment in found.segments if segment.relation == "readings"]
    assert [len(spans) for spans in raw] == [1, 1]


def test_many_late_quarters_do_not_make_many_statements() -> None:
    late = [f"2026-10-{day:02}T{hour:02}:00:00Z" for day in range(1, 31) for hour in range(0, 24, 5)]
    found = plan("2026-10-01T00:00:00Z", "2026-10-31T00:00:00Z", "1h", late=late)
    assert len(found.segments) <= 3 * MAX_SEGMENTS


@given(
    start=st.datetimes(datetime(2026, 3, 20), datetime(2026, 4, 10)),  # noqa: DTZ001 - made aware below
    hours=st.floats(0.01, 400),
    window=st.sampled_from(("1m", "15m", "1h", "6h", "1d", "1w", "1mo")),
    tz=st.sampled_from(("Europe/Paris", "UTC", "Asia/Kolkata", "Australia/Lord_Howe")),
    late=st.lists(st.integers(0, 96 * 30), max_size=200),
)
def test_spans_cover_the_range_exactly_once_and_no_bucket_edge_cuts_a_cell(
    start: datetime, hours: float, window: str, tz: str, late: list[int]
) -> None:
    first = start.replace(tzinfo=UTC)
    quarters = [datetime(2026, 3, 15, tzinfo=UTC) + timedelta(minutes=15) * each for each in late]
    last = first + timedelta(hours=hours)
    found = plan(first.isoformat(), last.isoformat(), window, [each.isoformat() for each in quarters], tz=tz)
    spans = sorted(span for segment in found.segments for span in segment.spans)
    assert joined(spans) == [(first, last)]
    assert without([(first, last)], spans) == []
    assert sum((end - begin for begin, end in spans), timedelta()) == last - first
    for segment in found.segments:
        if segment.relation != "readings":
            late_here = [each for each in quarters for begin, end in segment.spans if begin <= each < end]
            assert late_here == []


@pytest.mark.parametrize(
    ("window", "more", "relations"),
    [
        ("15m", {}, {"15m"}),
        ("1h", {}, {"1h"}),
        ("1d", {}, {"1d"}),
        ("30m", {}, set()),
        ("1w", {}, set()),
        # Buckets begin a quarter before the hours of UTC.
        ("1h", {"tz": "Asia/Kathmandu"}, set()),
        ("15m", {"tz": "Asia/Kathmandu"}, {"15m"}),
        # The clocks go back: the hour that they repeat is two buckets, the three hours around it are one of four.
        ("1h", {"start": "2026-10-24T12:00:00Z"}, {"1h"}),
        ("3h", {"start": "2026-10-24T12:00:00Z"}, set()),
    ],
)
def test_buckets_are_cells_where_each_is_one(window: str, more: dict[str, str], relations: set[str]) -> None:
    asked = {"start": "2026-11-20T10:50:00Z", "end": "2026-11-23T00:10:00Z", "window": window} | more
    found = plan(**asked)
    every: tuple[Relation, ...] = ("readings", "15m", "1h", "1d")
    assert {each for each in every if found.has_buckets_of(each)} == relations
