"""The estimate of a device's clock: what it takes for skew, and what it does not."""

from __future__ import annotations

import random

import pytest

from telemetry.domains import load_domains
from telemetry.ingest import clocks as module
from telemetry.ingest.clocks import WINDOW_US, Clocks
from telemetry.store.batch import Batch, Part, Readings
from telemetry.store.layout import HOUR_US, SECOND_US, Layout

LAYOUT = Layout.of(load_domains()["waste"])
SHAPE = LAYOUT.shape(("weight_kg",))
NOW = 480_000 * HOUR_US
DEVICE = 7


def batch(*delays_s: float, at_us: int = NOW, device: int | None = None) -> Batch:
    """A batch with a reading for each delay; of one device, or of as many devices as there are readings."""
    made = Batch(0, len(delays_s), at_us)
    readings = made.readings["waste"] = Readings(LAYOUT)
    for number, delay_s in enumerate(delays_s, 1):
        time_us = at_us - int(delay_s * SECOND_US)
        readings.add((time_us, at_us, number if device is None else device, SHAPE, Part("t", b"", 0), 1.0))
    return made


class Told:
    """Clocks, and what they told last of one device."""

    def __init__(self) -> None:
        self.clocks = Clocks()
        self.skew_s: float | None = None

    def hear(self, *delays_s: float, window: float = 0.0, device: int = DEVICE) -> float | None:
        """Readings of the device, so many windows after the first."""
        self.clocks.observe(batch(*delays_s, at_us=NOW + int(window * WINDOW_US), device=device))
        for clock in self.clocks.news():
            self.skew_s = clock.skew_us / SECOND_US
        return self.skew_s


def test_clock_that_is_ahead_is_told_at_once() -> None:
    assert Told().hear(-119.0, -119.7, -118.2) == 119.7


def test_clock_that_is_right_shows_its_shortest_way() -> None:
    assert Told().hear(2.5, 0.25, 30.0) == -0.25


def test_clock_that_is_behind_is_told_in_the_second_window() -> None:
    told = Told()
    assert told.hear(600.0, 601.0) is None
    assert told.hear(600.5, window=0.9) is None
    assert told.hear(600.5, window=1) == -600.0


def test_upload_of_old_data_is_no_slow_clock() -> None:
    told = Told()
    assert told.hear(0.5) == -0.5
    assert told.hear(86_400.0, window=4) == -0.5
    assert told.hear(0.5, window=5) == -0.5


def test_backlog_after_an_outage_is_no_slow_clock() -> None:
    told = Told()
    assert told.hear(3_600.0) is None
    assert told.hear(1_800.0, 1.0, window=0.2) == -1.0


def test_one_odd_reading_is_no_fast_clock() -> None:
    told = Told()
    assert told.hear(0.5) == -0.5
    assert told.hear(-1e9, window=1) == -0.5
    assert told.hear(0.5, window=2) == -0.5


def test_clock_that_was_put_right_is_right_in_the_next_window() -> None:
    told = Told()
    assert told.hear(-200.0) == 200.0
    assert told.hear(0.5, window=0.5) == 200.0
    assert told.hear(0.5, window=1) == -0.5


def test_readings_without_time_tell_nothing() -> None:
    told = Told()
    assert told.hear(0.0, -0.000001, -0.05) is None
    assert told.clocks._estimates == {}


def test_refused_readings_of_a_wrong_clock_count() -> None:
    made = batch()
    made.wrong_clocks.append(("new", 4_070_908_800 * SECOND_US, NOW))
    clocks = Clocks()
    clocks.observe(made)
    ((device, skew_us, seen_us),) = clocks.news()
    assert (device, skew_us, seen_us) == ("new", 4_070_908_800 * SECOND_US - NOW, NOW)


def test_clock_is_written_at_a_change_and_once_a_window() -> None:
    told = Told()
    told.hear(-50.0)
    for number in range(1, 10):
        told.clocks.observe(batch(-50.0, at_us=NOW + number, device=DEVICE))
        assert told.clocks.news() == []
    assert told.hear(-60.0, window=0.5) == 60.0
    told.clocks.observe(batch(-60.0, at_us=NOW + int(1.4 * WINDOW_US), device=DEVICE))
    assert told.clocks.news() == []
    told.clocks.observe(batch(-60.0, at_us=NOW + int(1.6 * WINDOW_US), device=DEVICE))
    assert len(told.clocks.news()) == 1


def test_skewed_clocks_are_counted_by_direction_and_size() -> None:
    clocks = Clocks()
    clocks.observe(batch(-4.0, -6.0, -70.0, -280.0, 0.1, 400.0))
    clocks.news()
    clocks.observe(batch(-4.0, -6.0, 0.1, -280.0, 0.1, 400.0, at_us=NOW + WINDOW_US))
    clocks.news()
    assert {(direction, beyond): count for direction, beyond, count in clocks.skewed()} == {
        ("ahead", 5): 2,
        ("ahead", 60): 1,
        ("ahead", 300): 0,
        ("behind", 5): 1,
        ("behind", 60): 1,
        ("behind", 300): 1,
    }


def test_large_batch_is_looked_at_here_and_there_and_every_device_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PER_BATCH", 10)
    random.seed(1)
    clocks = Clocks()
    large = batch(*[0.5] * 100)
    seen: set[int | str] = set()
    for _ in range(200):
        clocks.observe(large)
        assert len(clocks._touched) <= 10
        seen |= set(clocks._touched)
        clocks.news()
    assert len(seen) == 100


def test_memory_is_bounded_and_silent_devices_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_MOST", 10)
    clocks = Clocks()
    clocks.observe(batch(*[-10.0] * 30))
    assert len(clocks.news()) == 10
    clocks.observe(batch(-10.0, at_us=NOW + 2 * HOUR_US, device=1))
    clocks.news()
    assert len(clocks._estimates) == 1
    assert ("ahead", 5, 1) in list(clocks.skewed())
    clocks.observe(batch(-10.0, at_us=NOW + 2 * HOUR_US, device=99))
    assert len(clocks._estimates) == 2


def test_clocks_are_handed_out_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PER_FLUSH", 4)
    clocks = Clocks()
    clocks.observe(batch(*[-10.0] * 10))
    assert [len(clocks.news()) for _ in range(4)] == [4, 4, 2, 0]
