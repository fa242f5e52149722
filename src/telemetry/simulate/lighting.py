"""Street lamps: lit from dusk to dawn, LED lamps dimmed from 22:00 to 05:00, a few of them broken.

A driver holds its power, so power is constant between switching times and energy is its exact integral:
`ΔE = Σ power × hours`. Totals over past nights are shared by all lamps that switch at the same offset.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from telemetry.simulate.calendar import FIRST_DAY, HOUR, DailyTotals, at, between, day_of, noise
from telemetry.simulate.device import Kind, Payload, SimulatedDevice
from telemetry.simulate.sky import air_temperature, sun

KINDS: Final = (
    Kind("led", "lamp", "Lamp"),
    Kind("led", "lamp", "Lamp"),
    Kind("sodium", "lamp", "Lamp"),
    Kind("led", "lamp", "Lamp"),
    Kind("led", "lamp", "Lamp"),
)

_TWILIGHT_S = 15 * 60.0
_STANDBY_W = 0.8
_REPAIR_CYCLE = 12
_NIGHTS_BROKEN = 2


class Night(NamedTuple):
    """The switching times of one night, Unix seconds in rising order."""

    on: float
    dim: float
    full: float
    off: float


class _Lamp(NamedTuple):
    full_w: float
    dimmed_w: float
    dimmed_pct: float
    power_factor: float
    offset_min: int
    earlier_h: float
    fault: str
    fault_phase: int


class _Burnt(NamedTuple):
    """Hours lit, at full light and dimmed."""

    full_h: float
    dimmed_h: float


@cache
def night(day: int, offset_min: int) -> Night:
    """The night that begins on that day, for a lamp whose light sensor is late by so many minutes."""
    late = offset_min * 60
    on = sun(day)[1] + _TWILIGHT_S + late
    off = sun(day + 1)[0] - _TWILIGHT_S + late
    return Night(on, max(on, at(day, 22)), min(off, at(day + 1, 5)), off)


def payload(device: SimulatedDevice, instant: float) -> Payload:
    """The reading of a lamp at an instant (Unix seconds)."""
    lamp = _lamp(device)
    day = day_of(instant - 12 * HOUR)
    light_pct = _light_pct(lamp, day, instant)
    power_w = _power_w(lamp, light_pct)
    voltage_v = 228.0 + 8.0 * noise(device.seed, int(instant // 60))
    burnt = _burnt(lamp, day, instant)
    return {
        "power_w": round(power_w, 3),
        "voltage_v": round(voltage_v, 1),
        "current_a": round(power_w / (voltage_v * lamp.power_factor), 4),
        "power_factor": lamp.power_factor,
        "dim_level_pct": light_pct,
        "temperature_c": round(air_temperature(instant) + 3.0 + 0.22 * power_w, 1),
        "energy_kwh": round(_energy_kwh(lamp, burnt, instant), 4),
        "burning_hours_h": round(burnt.full_h + burnt.dimmed_h, 3),
        "lamp_on": light_pct > 0,
        "fault": lamp.fault if _has_fault(lamp, day) else "none",
        "rssi_dbm": round(-72 - 40 * noise(device.seed, 1) + 5 * noise(device.seed, int(instant))),
    }


def emitted_faults(device: SimulatedDevice) -> set[str]:
    """The faults that a lamp reports now and then; empty for most."""
    return {_lamp(device).fault} - {"none"}


@cache
def _lamp(device: SimulatedDevice) -> _Lamp:
    draw = noise(device.seed, 2)
    offset_min = int(between(-4, 5, noise(device.seed, 3)))
    earlier_h = round(between(200, 9_000, noise(device.seed, 6)), 1)
    fault = _fault(noise(device.seed, 4))
    fault_phase = int(noise(device.seed, 5) * _REPAIR_CYCLE)
    if device.kind == "sodium":
        watts = (83.0, 115.0, 169.0)[int(draw * 3)]
        return _Lamp(watts, watts, 100.0, 0.85, offset_min, earlier_h, fault, fault_phase)
    watts = (27.5, 41.0, 56.5, 84.0)[int(draw * 4)]
    return _Lamp(watts, watts * 0.44, 40.0, 0.95, offset_min, earlier_h, fault, fault_phase)


def _fault(chance: float) -> str:
    for fault, share in (("lamp", 0.01), ("driver", 0.006), ("communication", 0.006)):
        if chance < share:
            return fault
        chance -= share
    return "none"


def _has_fault(lamp: _Lamp, day: int) -> bool:
    """Whether the lamp's fault is there in that night and the day before it; then the crew comes."""
    return lamp.fault != "none" and (day + lamp.fault_phase) % _REPAIR_CYCLE < _NIGHTS_BROKEN


def _is_dark(lamp: _Lamp, day: int) -> bool:
    return lamp.fault in ("lamp", "driver") and _has_fault(lamp, day)


def _light_pct(lamp: _Lamp, day: int, instant: float) -> float:
    times = night(day, lamp.offset_min)
    if not times.on <= instant < times.off or _is_dark(lamp, day):
        return 0.0
    return lamp.dimmed_pct if times.dim <= instant < times.full else 100.0


def _power_w(lamp: _Lamp, light_pct: float) -> float:
    if light_pct == 0:
        return _STANDBY_W
    return lamp.full_w if light_pct == 100 else lamp.dimmed_w


def _energy_kwh(lamp: _Lamp, burnt: _Burnt, instant: float) -> float:
    lit_here_h = burnt.full_h - lamp.earlier_h + burnt.dimmed_h
    standby_h = (instant - at(FIRST_DAY, 12)) / HOUR - lit_here_h
    return (burnt.full_h * lamp.full_w + burnt.dimmed_h * lamp.dimmed_w + standby_h * _STANDBY_W) / 1000


def _burnt(lamp: _Lamp, day: int, instant: float) -> _Burnt:
    full, dimmed = _totals(lamp.offset_min, lamp.fault_phase if lamp.fault in ("lamp", "driver") else None)
    lit = _Burnt(0.0, 0.0) if _is_dark(lamp, day) else _lit(night(day, lamp.offset_min), instant)
    return _Burnt(lamp.earlier_h + full.before(day) + lit.full_h, dimmed.before(day) + lit.dimmed_h)


def _lit(times: Night, until: float) -> _Burnt:
    """Hours lit in one night up to an instant."""
    on, dim, full, off = (min(max(until, times.on), moment) for moment in times)
    return _Burnt((dim - on + off - full) / HOUR, (full - dim) / HOUR)


@cache
def _totals(offset_min: int, dark_phase: int | None) -> tuple[DailyTotals, DailyTotals]:
    """Running totals of hours at full light and dimmed, for lamps that switch alike and are broken alike."""

    def of_night(day: int) -> _Burnt:
        dark = dark_phase is not None and (day + dark_phase) % _REPAIR_CYCLE < _NIGHTS_BROKEN
        return _Burnt(0.0, 0.0) if dark else _lit(night(day, offset_min), at(day + 1, 12))

    return DailyTotals(lambda day: of_night(day).full_h), DailyTotals(lambda day: of_night(day).dimmed_h)
