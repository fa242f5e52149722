"""Car parks that count arrivals and departures, and single spots that know whether they are taken.

A car park sees a whole number of visitors a day, who come and go along two daily curves; everybody is gone, or back, by
midnight. So the counters are whole, never fall, and `occupied_spots` is what they say.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Final, NamedTuple

from telemetry.simulate.calendar import DailyTotals, between, day_of, fraction_of_day, is_weekend, noise
from telemetry.simulate.device import Kind, Payload, SimulatedDevice

KINDS: Final = (
    Kind("commuters", "parking", "Car park"),
    Kind("spot", "parking", "Spot"),
    Kind("spot", "parking", "Spot"),
    Kind("spot", "parking", "Spot"),
    Kind("shoppers", "parking", "Car park"),
    Kind("spot", "parking", "Spot"),
    Kind("spot", "parking", "Spot"),
    Kind("spot", "parking", "Spot"),
    Kind("residents", "parking", "Car park"),
    Kind("spot", "parking", "Spot"),
    Kind("spot", "parking", "Spot"),
    Kind("spot", "parking", "Spot"),
)

Curve = tuple[tuple[float, float], ...]


class _Habit(NamedTuple):
    """When the visitors of a day have come and left: (hour, share so far); and the car park's size and use."""

    arrivals: Curve
    departures: Curve
    spots: tuple[int, int]
    overnight: float
    weekend: float


_HABITS: Final = {
    "commuters": _Habit(
        ((0, 0), (6, 0.01), (7.5, 0.22), (9, 0.72), (12, 0.84), (14, 0.95), (20, 1), (24, 1)),
        ((0, 0), (8, 0.01), (12, 0.14), (14, 0.22), (16.5, 0.36), (18.5, 0.84), (21, 0.98), (24, 1)),
        (120, 640), 0.06, 0.25,
    ),
    "shoppers": _Habit(
        ((0, 0), (8.5, 0.02), (11, 0.28), (12.5, 0.42), (14, 0.52), (17.5, 0.86), (19.5, 0.98), (24, 1)),
        ((0, 0), (9.5, 0.01), (11.5, 0.20), (13, 0.40), (15, 0.50), (18, 0.78), (20.5, 0.98), (24, 1)),
        (150, 480), 0.04, 1.15,
    ),
    "residents": _Habit(
        ((0, 0), (8, 0.01), (12, 0.12), (14, 0.16), (17, 0.40), (19.5, 0.86), (22, 0.98), (24, 1)),
        ((0, 0), (6, 0.03), (7.5, 0.42), (9, 0.72), (13.5, 0.86), (18, 0.96), (22, 1), (24, 1)),
        (60, 220), 0.90, 0.55,
    ),
}  # fmt: skip


class _CarPark(NamedTuple):
    total: int
    overnight: int
    swing: int
    """Visitors of an ordinary working day."""


def payload(device: SimulatedDevice, instant: float) -> Payload:
    """The reading of a car park or of a single spot at an instant (Unix seconds)."""
    return _spot(device, instant) if device.kind == "spot" else _car_park(device, instant)


def _car_park(device: SimulatedDevice, instant: float) -> Payload:
    habit = _HABITS[device.kind]
    park = _traits(device)
    day, passed = fraction_of_day(instant)
    today = _visitors(device, day)
    before = int(_visitor_totals(device).before(day))
    arrivals = before + int(today * share_at(habit.arrivals, passed * 24))
    departures = before + int(today * share_at(habit.departures, passed * 24))
    return {
        "occupied_spots": park.overnight + arrivals - departures,
        "total_spots": park.total,
        "arrivals": arrivals,
        "departures": departures,
    }


def share_at(curve: Curve, hour: float) -> float:
    """The share of a day's visitors by an hour in [0, 24)."""
    for (start, low), (end, high) in pairwise(curve):
        if hour < end:
            return between(low, high, (hour - start) / (end - start))
    return curve[-1][1]


@cache
def _traits(device: SimulatedDevice) -> _CarPark:
    habit = _HABITS[device.kind]
    total = round(between(*habit.spots, noise(device.seed, 21)))
    overnight = int(total * habit.overnight)
    room = overnight if habit.overnight > 0.5 else total - overnight
    return _CarPark(total, overnight, int(room * between(0.6, 0.82, noise(device.seed, 22)) / _widest_gap(device.kind)))


@cache
def _widest_gap(kind: str) -> float:
    """The most that one curve is ahead of the other, as a share of the day's visitors."""
    habit = _HABITS[kind]
    hours = [hour for hour, _ in (*habit.arrivals, *habit.departures)]
    return max(abs(share_at(habit.arrivals, hour) - share_at(habit.departures, hour)) for hour in hours)


def _visitors(device: SimulatedDevice, day: int) -> int:
    usual = _HABITS[device.kind].weekend if is_weekend(day) else 1.0
    return int(_traits(device).swing * usual * between(0.88, 1.04, noise(device.seed, 23, day)))


@cache
def _visitor_totals(device: SimulatedDevice) -> DailyTotals:
    return DailyTotals(lambda day: _visitors(device, day))


def _spot(device: SimulatedDevice, instant: float) -> Payload:
    """A spot changes hands, if at all, at the edges of slots whose length is its own."""
    slot_s = between(1_500, 5_400, noise(device.seed, 24))
    _, passed = fraction_of_day(instant)
    hour = passed * 24
    demand = 0.45 if hour < 7 or hour >= 20 else 0.78
    if is_weekend(day_of(instant)):
        demand *= 0.8
    return {
        "occupied": noise(device.seed, 25, int(instant // slot_s)) < demand,
        "battery_pct": round(between(55, 99, noise(device.seed, 26)), 1),
        "rssi_dbm": round(-85 - 30 * noise(device.seed, 1) + 5 * noise(device.seed, int(instant))),
        "snr_db": round(-2 + 10 * noise(device.seed, 27, int(instant)), 1),
    }
