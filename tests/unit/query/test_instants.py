"""Points in time as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from telemetry.errors import InvalidQuery
from telemetry.query.instants import format_instant, format_utc, parse_instant, parse_zone

NOW = datetime(2026, 11, 24, 15, 0, 0, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("now", NOW),
        ("-24h", NOW - timedelta(hours=24)),
        ("-90s", NOW - timedelta(seconds=90)),
        ("-2w", NOW - timedelta(weeks=2)),
        ("2026-03-29T00:00:00+01:00", datetime(2026, 3, 28, 23, tzinfo=UTC)),
        ("2026-03-28T23:00:00Z", datetime(2026, 3, 28, 23, tzinfo=UTC)),
        ("2026-03-28t23:00:00z", datetime(2026, 3, 28, 23, tzinfo=UTC)),
        ("2026-03-28T23:00:00.1234567Z", datetime(2026, 3, 28, 23, 0, 0, 123456, tzinfo=UTC)),
        ("2026-03-28T23:00:00.5-05:30", datetime(2026, 3, 29, 4, 30, 0, 500_000, tzinfo=UTC)),
        # A "+" that was not percent-encoded.
        ("2026-03-29T00:00:00 01:00", datetime(2026, 3, 28, 23, tzinfo=UTC)),
    ],
)
def test_instant_is_read(text: str, wanted: datetime) -> None:
    found = parse_instant("start", text, NOW)
    assert found == wanted
    assert found.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    [
        *("", "24h", "+1h", "-1y", "- 1h", "yesterday", "2026-03-28", "2026-03-28T23:00:00", "2026-02-30T00:00:00Z"),
        *("2026-03-28T23:00Z", "2026-03-28T25:00:00Z", "1969-12-31T23:59:59Z", "2200-01-01T00:00:00Z", "-999999999w"),
    ],
)
def test_text_that_is_no_instant_is_refused_with_examples(text: str) -> None:
    with pytest.raises(InvalidQuery) as refusal:
        parse_instant("start", text, NOW)
    assert (refusal.value.parameter, refusal.value.given) == ("start", text)
    assert "-24h" in refusal.value.allowed


@pytest.mark.parametrize(
    "text",
    [
        *("", "Paris", "../etc/passwd", "/etc/passwd", "Europe", "Europe/Paris\0", "europe/paris"),
        # Files beside the zones; what they say depends on the machine.
        *("localtime", "posixrules", "right/UTC", "posix/Europe/Paris", "Factory"),
    ],
)
def test_text_that_is_no_zone_is_refused(text: str) -> None:
    with pytest.raises(InvalidQuery, match="tz"):
        parse_zone("tz", text)


def test_instant_is_shown_with_the_offset_of_its_zone() -> None:
    paris = parse_zone("tz", "Europe/Paris")
    first, second = datetime(2026, 10, 25, 0, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)
    assert format_instant(first, paris) == "2026-10-25T02:00:00+02:00"
    assert format_instant(second, paris) == "2026-10-25T02:00:00+01:00"
    assert format_utc(second) == "2026-10-25T01:00:00Z"
