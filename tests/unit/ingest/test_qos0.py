"""The log tells of dropped QoS 0 messages once for each burst."""

from __future__ import annotations

from collections.abc import Iterable

from structlog.testing import capture_logs

from telemetry.ingest.qos0 import LONGEST_S, QUIET_S, Dropped


def told(notes: Iterable[tuple[int, float]], *, ends: bool = False) -> list[int]:
    """The messages of each line, after these totals at these times."""
    dropped = Dropped("ours")
    with capture_logs() as said:
        for total, now in notes:
            dropped.note(total, now)
        if ends:
            dropped.tell()
    assert {each["event"] for each in said} <= {"mqtt_qos0_dropped"}
    return [each["messages"] for each in said]


def test_burst_is_told_once_when_it_is_over() -> None:
    assert told([(0, 100.0), (10, 101.0), (25, 102.0), (25, 102.0 + QUIET_S / 2)]) == []
    assert told([(10, 101.0), (25, 102.0), (25, 102.0 + QUIET_S), (25, 500.0)]) == [25]


def test_every_burst_has_a_line_of_its_own() -> None:
    assert told([(10, 1.0), (10, 10.0), (15, 20.0), (15, 30.0)]) == [10, 5]


def test_burst_without_end_is_told_in_pieces() -> None:
    notes = [(second, float(second)) for second in range(1, 2 * int(LONGEST_S) + 10)]
    lines = told(notes, ends=True)
    assert len(lines) == 3
    assert sum(lines) == len(notes)


def test_end_tells_what_is_left_and_nothing_is_nothing() -> None:
    assert told([(0, 1.0), (0, 100.0)], ends=True) == []
    assert told([(3, 1.0)], ends=True) == [3]
