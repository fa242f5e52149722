"""Labels that are made day by day are those that are made one by one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from telemetry.api.labels import labels
from telemetry.query.calendar import WINDOWS, bucket_edges, parse_window
from telemetry.query.instants import format_instant

ZONES = (
    *("Europe/Paris", "UTC", "Asia/Kolkata", "America/New_York", "America/Havana", "Africa/Cairo"),
    *("Australia/Lord_Howe", "Pacific/Apia", "Africa/Monrovia", "America/Sao_Paulo"),
)
CHANGES = tuple(
    datetime.fromisoformat(day).replace(tzinfo=UTC)
    for day in ("1971-12-31", "2011-12-29", "2018-11-03", "2026-03-28", "2026-04-04", "2026-04-23", "2026-10-24")
)


@given(
    window=st.sampled_from(WINDOWS),
    zone=st.sampled_from(ZONES),
    start=st.sampled_from(CHANGES).flatmap(
        lambda day: (
            st.datetimes(*(day.replace(tzinfo=None),) * 2)
            | st.datetimes(day.replace(tzinfo=None), day.replace(tzinfo=None) + timedelta(days=3))
        )
    ),
    buckets=st.integers(1, 400),
    data=st.data(),
)
def test_labels_are_those_made_one_by_one(
    window: str, zone: str, start: datetime, buckets: int, data: st.DataObject
) -> None:
    asked, where, begin = parse_window(window), ZoneInfo(zone), start.replace(tzinfo=UTC)
    edges = bucket_edges(asked, begin, begin + buckets * asked.nominal, where)
    first = data.draw(st.integers(0, len(edges) - 1), "first")
    end = data.draw(st.integers(first, len(edges)), "end")
    made = [date + time for date, times in labels(edges, where, first, end) for time in times]
    assert made == [format_instant(edge, where) for edge in edges[first:end]]
