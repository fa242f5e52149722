"""Electricity meters: schools, town halls, pumping stations and solar roofs.

The load of a building is a daily curve, straight between the hours of the wall clock, with a ripple of two sines; the
sun's is half a sine from sunrise to sunset. Both have exact integrals, so the energy indexes fit the power shown.
"""

from __future__ import annotations

from datetime import date
from functools import cache, partial
from itertools import accumulate, pairwise
from math import cos, pi, sin, tau
from typing import Final, NamedTuple

from telemetry.simulate.calendar import (
    FIRST_DAY,
    HOUR,
    DailyTotals,
    at,
    between,
    day_of,
    is_weekend,
    noise,
    wall_hours,
)
from telemetry.simulate.device import Kind, Payload, SimulatedDevice
from telemetry.simulate.sky import clearness, daylight_hours, sun

KINDS: Final = (
    Kind("school", "meter", "School"),
    Kind("town_hall", "meter", "Town hall"),
    Kind("pumping_station", "meter", "Pumping station"),
    Kind("school", "meter", "School"),
    Kind("solar_roof", "meter", "Solar roof"),
    Kind("town_hall", "meter", "Town hall"),
)


class _Building(NamedTuple):
    """Per cent of the connected load for each hour of the wall clock, and how much more winter takes."""

    weekday: tuple[int, ...]
    weekend: tuple[int, ...]
    winter: float


_BUILDINGS: Final = {
    "school": _Building(
        (16, 16, 16, 16, 17, 22, 38, 62, 82, 86, 88, 92, 95, 84, 86, 84, 72, 52, 36, 26, 21, 18, 17, 16),
        (15, 15, 15, 15, 15, 15, 16, 16, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 16, 16, 16, 15, 15, 15),
        0.35,
    ),
    "town_hall": _Building(
        (20, 20, 19, 19, 20, 22, 30, 48, 70, 80, 82, 80, 66, 74, 80, 80, 76, 64, 46, 34, 28, 25, 22, 21),
        (18, 18, 18, 18, 18, 18, 19, 20, 28, 34, 36, 34, 24, 21, 20, 20, 20, 20, 19, 19, 19, 18, 18, 18),
        0.25,
    ),
    "pumping_station": _Building(
        (78, 82, 84, 84, 80, 66, 58, 74, 80, 66, 52, 46, 48, 44, 40, 40, 46, 58, 70, 74, 66, 54, 50, 66),
        (78, 82, 84, 84, 80, 62, 46, 52, 68, 78, 74, 62, 56, 48, 42, 42, 46, 56, 68, 72, 64, 54, 50, 66),
        0.0,
    ),
}  # fmt: skip
_RIPPLES: Final = ((0.05, 2.9 * HOUR), (0.03, 0.71 * HOUR))
"""Amplitude, as a share of the connected load, and period; together below the least share of any curve."""
_SOLAR_STANDBY_W = 6.0


class _Meter(NamedTuple):
    connected_w: float
    shift_s: float
    ripple_phase: float
    reactive_share: float
    phase_shares: tuple[float, float, float]


class _Load(NamedTuple):
    active_w: float
    import_kwh: float
    export_kwh: float


def payload(device: SimulatedDevice, instant: float) -> Payload:
    """The reading of a three-phase meter at an instant (Unix seconds)."""
    meter = _meter(device)
    load = _solar(meter, instant) if device.kind == "solar_roof" else _building(device.kind, meter, instant)
    reactive_var = abs(load.active_w) * meter.reactive_share
    apparent_va = (load.active_w**2 + reactive_var**2) ** 0.5
    voltages = [round(226.0 + 9.0 * noise(device.seed, phase, int(instant // 60)), 1) for phase in (1, 2, 3)]
    currents = [round(apparent_va * share / volt, 3) for share, volt in zip(meter.phase_shares, voltages, strict=True)]
    return {
        "active_power_w": round(load.active_w, 1),
        "reactive_power_var": round(reactive_var, 1),
        "apparent_power_va": round(apparent_va, 1),
        "voltage_v": round(sum(voltages) / 3, 1),
        "voltage_l1_v": voltages[0],
        "voltage_l2_v": voltages[1],
        "voltage_l3_v": voltages[2],
        "current_a": round(sum(currents), 3),
        "current_l1_a": currents[0],
        "current_l2_a": currents[1],
        "current_l3_a": currents[2],
        "power_factor": round(load.active_w / apparent_va, 4),
        "frequency_hz": round(49.97 + 0.06 * noise(0, int(instant // 20)), 3),
        "energy_import_kwh": round(load.import_kwh, 3),
        "energy_export_kwh": round(load.export_kwh, 3),
        "reactive_energy_kvarh": round((load.import_kwh + load.export_kwh) * meter.reactive_share, 3),
    }


@cache
def _meter(device: SimulatedDevice) -> _Meter:
    low, high = {
        "school": (18_000, 90_000),
        "town_hall": (12_000, 60_000),
        "pumping_station": (8_000, 45_000),
        "solar_roof": (6_000, 36_000),
    }[device.kind]
    first = between(0.31, 0.36, noise(device.seed, 11))
    second = between(0.31, 0.36, noise(device.seed, 12))
    return _Meter(
        connected_w=round(between(low, high, noise(device.seed, 13)), -2),
        shift_s=between(-1_500, 1_500, noise(device.seed, 14)),
        ripple_phase=tau * noise(device.seed, 15),
        reactive_share=round(between(0.1, 0.4, noise(device.seed, 16)), 2),
        phase_shares=(first, second, 1 - first - second),
    )


def _building(kind: str, meter: _Meter, instant: float) -> _Load:
    shifted = instant + meter.shift_s
    share, share_hours = _curve(kind, shifted)
    for amplitude, period in _RIPPLES:
        angle = tau * shifted / period + meter.ripple_phase
        share += amplitude * sin(angle)
        share_hours -= amplitude * period / HOUR / tau * cos(angle)
    return _Load(meter.connected_w * share, meter.connected_w * (share_hours + 1) / 1000, 0.0)


def _curve(kind: str, instant: float) -> tuple[float, float]:
    """Share of the connected load at an instant, and its integral in hours since the city's first day."""
    day = day_of(instant)
    knots, integral = _day(kind, day)
    hour, passed = divmod((instant - at(day)) / HOUR, 1)
    start, end = knots[int(hour)], knots[int(hour) + 1]
    share = between(start, end, passed)
    return share, _curve_totals(kind).before(day) + integral[int(hour)] + (start + share) / 2 * passed


@cache
def _day(kind: str, day: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The curve at each full hour of a day, the next midnight included, and its integral up to each of them."""
    hours = wall_hours(day)
    knots = (*(_hourly(kind, day, hour) for hour in hours), _hourly(kind, day + 1, 0))
    steps = ((start + end) / 2 for start, end in pairwise(knots))
    return knots, tuple(accumulate(steps, initial=0.0))


def _hourly(kind: str, day: int, hour: int) -> float:
    building = _BUILDINGS[kind]
    season = 1 + building.winter * cos(tau * (date.fromordinal(day).timetuple().tm_yday - 15) / 365)
    return (building.weekend if is_weekend(day) else building.weekday)[hour] / 100 * season


def _day_total(kind: str, day: int) -> float:
    return _day(kind, day)[1][-1]


@cache
def _curve_totals(kind: str) -> DailyTotals:
    return DailyTotals(partial(_day_total, kind))


def _solar(meter: _Meter, instant: float) -> _Load:
    day = day_of(instant)
    sunrise, sunset = sun(day)
    passed = min(max((instant - sunrise) / (sunset - sunrise), 0.0), 1.0)
    sun_hours = _SUN_HOURS.before(day) + _sun_hours(day) * (1 - cos(pi * passed)) / 2
    dark_h = (instant - at(FIRST_DAY)) / HOUR - _DAYLIGHT.before(day) - daylight_hours(day) * passed
    shining = 0.0 < passed < 1.0
    active_w = -meter.connected_w * _brightness(day) * sin(pi * passed) if shining else _SOLAR_STANDBY_W
    return _Load(active_w, dark_h * _SOLAR_STANDBY_W / 1000, meter.connected_w * sun_hours / 1000)


def _brightness(day: int) -> float:
    """Share of the peak power that noon brings: clouds, and how high the sun stands."""
    return clearness(day) * daylight_hours(day) / 16.5


def _sun_hours(day: int) -> float:
    """Hours at peak power that yield as much as the whole day."""
    return _brightness(day) * daylight_hours(day) * 2 / pi


_SUN_HOURS = DailyTotals(_sun_hours)
_DAYLIGHT = DailyTotals(daylight_hours)
