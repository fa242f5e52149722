"""Waste containers that fill while people are about and are emptied by a round that comes every few days."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from telemetry.simulate.calendar import at, between, day_of, fraction_of_day, noise
from telemetry.simulate.device import Kind, Payload, SimulatedDevice
from telemetry.simulate.sky import air_temperature


class _Waste(NamedTuple):
    """Days between two rounds, density of the content, volume, and whether it ferments."""

    days: int
    kg_per_l: float
    volume_l: float
    ferments: bool


KINDS: Final = (
    Kind("household", "bin", "Household waste"),
    Kind("paper", "bin", "Paper"),
    Kind("glass", "bin", "Glass"),
    Kind("organic", "bin", "Organic waste"),
)
_WASTES: Final = {
    "household": _Waste(2, 0.11, 3_000, True),
    "paper": _Waste(4, 0.06, 4_000, False),
    "glass": _Waste(7, 0.32, 4_000, False),
    "organic": _Waste(3, 0.35, 1_100, True),
}
_LEFT_PCT = 3.0


class _Container(NamedTuple):
    waste: _Waste
    depth_mm: float
    round_hour: int
    round_phase: int
    pct_per_day: float


def payload(device: SimulatedDevice, instant: float) -> Payload:
    """The reading of a container at an instant (Unix seconds)."""
    container = _container(device)
    fill_pct = _fill_pct(container, instant)
    warmth_c = 0.06 * fill_pct if container.waste.ferments else 0.0
    quarter = int(instant // 900)
    methane_ppm = between(2, 60, fill_pct / 100) if container.waste.ferments else 2.0
    return {
        "fill_level_pct": round(fill_pct, 2),
        "weight_kg": round(fill_pct / 100 * container.waste.volume_l * container.waste.kg_per_l, 1),
        "temperature_c": round(air_temperature(instant) + 1.5 + warmth_c, 1),
        "distance_mm": round(container.depth_mm * (1 - fill_pct / 100)),
        "methane_ppm": round(methane_ppm + noise(device.seed, quarter, 1), 1),
        "tilted": _is_tilted(device, instant),
        "lid_open": noise(device.seed, quarter, 2) < 0.02 * _bustle(fraction_of_day(instant)[1]),
        "battery_pct": round(between(40, 99, noise(device.seed, 31)), 1),
        "rssi_dbm": round(-88 - 25 * noise(device.seed, 1) + 5 * noise(device.seed, int(instant))),
        "snr_db": round(-4 + 10 * noise(device.seed, 32, int(instant)), 1),
    }


@cache
def _container(device: SimulatedDevice) -> _Container:
    waste = _WASTES[device.kind]
    return _Container(
        waste=waste,
        depth_mm=round(between(1_200, 2_400, noise(device.seed, 33)), -1),
        round_hour=5 + int(noise(device.seed, 34) * 6),
        round_phase=int(noise(device.seed, 35) * waste.days),
        pct_per_day=between(58, 104, noise(device.seed, 36)) / waste.days,
    )


def emptied_at(days: int, phase: int, hour: int, instant: float) -> float:
    """When the round that comes every so many days was last there, at or before the instant."""
    day = day_of(instant)
    day -= (day + phase) % days
    return at(day, hour) if at(day, hour) <= instant else at(day - days, hour)


def _fill_pct(container: _Container, instant: float) -> float:
    emptied = emptied_at(container.waste.days, container.round_phase, container.round_hour, instant)
    return min(100.0, _LEFT_PCT + container.pct_per_day * (_busy_days(instant) - _busy_days(emptied)))


def _busy_days(instant: float) -> float:
    """Days' worth of waste thrown away so far: it grows by one a day, mostly in the daytime."""
    day, passed = fraction_of_day(instant)
    hour = passed * 24
    if hour < 7:
        return day + 0.06 * hour / 7
    if hour < 21:
        return day + 0.06 + 0.88 * (hour - 7) / 14
    return day + 0.94 + 0.06 * (hour - 21) / 3


def _bustle(passed: float) -> float:
    return 1.0 if 7 / 24 <= passed < 21 / 24 else 0.1


def _is_tilted(device: SimulatedDevice, instant: float) -> bool:
    """One container in forty lies on its side for a day now and then."""
    return noise(device.seed, 37) < 0.025 and (day_of(instant) + device.seed) % 9 == 0
