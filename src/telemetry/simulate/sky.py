"""Sun and weather over the city: sunrise, sunset, clearness and air temperature.

The sun follows the usual declination and equation-of-time approximations (Spencer, 1971), good to about two minutes.
"""

from __future__ import annotations

from datetime import date
from functools import cache
from math import acos, cos, pi, radians, sin

from telemetry.simulate.calendar import DAY, HOUR, at, between, day_of, noise

LATITUDE = 47.5
LONGITUDE = -0.56

_REFRACTION = radians(-0.833)
_WEATHER = 0x5EA50


@cache
def sun(day: int) -> tuple[float, float]:
    """Sunrise and sunset of a local day."""
    year_angle = 2 * pi * (date.fromordinal(day).timetuple().tm_yday - 1) / 365
    declination = 0.006918 - 0.399912 * cos(year_angle) + 0.070257 * sin(year_angle) - 0.006758 * cos(2 * year_angle)
    equation_of_time_min = 229.18 * (
        0.000075 + 0.001868 * cos(year_angle) - 0.032077 * sin(year_angle) - 0.014615 * cos(2 * year_angle)
    )
    equation_of_time_min -= 229.18 * 0.04089 * sin(2 * year_angle)
    latitude = radians(LATITUDE)
    hour_angle = acos((sin(_REFRACTION) - sin(latitude) * sin(declination)) / (cos(latitude) * cos(declination)))
    utc_midnight = (at(day, 12) // DAY) * DAY
    noon = utc_midnight + DAY / 2 - LONGITUDE * 240 - equation_of_time_min * 60
    half = hour_angle / (2 * pi) * DAY
    return noon - half, noon + half


@cache
def clearness(day: int) -> float:
    """Share of the sunshine that passes the clouds on that day, 0.2 to 1."""
    return between(0.2, 1.0, noise(_WEATHER, day))


@cache
def _mean_temperature(day: int) -> float:
    season = cos(2 * pi * (date.fromordinal(day).timetuple().tm_yday - 20) / 365)
    return 12.0 - 7.5 * season + 6.0 * (noise(_WEATHER, day, 1) - 0.5)


def air_temperature(instant: float) -> float:
    """Outdoor temperature in °C: season, weather of the day and warmest in mid-afternoon; it never jumps."""
    day = day_of(instant)
    passed = (instant - at(day)) / (at(day + 1) - at(day))
    mean = between(_mean_temperature(day), _mean_temperature(day + 1), passed)
    return mean + 4.0 * cos(2 * pi * (passed - 15 / 24))


def daylight_hours(day: int) -> float:
    """Hours between sunrise and sunset."""
    sunrise, sunset = sun(day)
    return (sunset - sunrise) / HOUR
