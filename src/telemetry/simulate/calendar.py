"""The city's days: local midnights, running totals over days, and noise that depends on nothing but its arguments.

A day is a proleptic ordinal (`date.toordinal`), an instant is Unix seconds. Days have 23, 24 or 25 hours.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from functools import cache
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("Europe/Paris")
DAY = 86_400.0
HOUR = 3_600.0
FIRST_DAY = date(2024, 1, 1).toordinal()
"""The city's meters start counting here; it has no past before it."""

_UNIX_DAY = date(1970, 1, 1).toordinal()
_MASK = (1 << 64) - 1


@cache
def at(day: int, hour: int = 0) -> float:
    """The instant of a full hour on the wall clock of that day."""
    calendar = date.fromordinal(day)
    return datetime(calendar.year, calendar.month, calendar.day, hour, tzinfo=ZONE).timestamp()


def day_of(instant: float) -> int:
    """The local day that contains the instant."""
    day = _UNIX_DAY + int((instant + 2 * HOUR) // DAY)
    return day if instant >= at(day) else day - 1


def fraction_of_day(instant: float) -> tuple[int, float]:
    """The local day, and how much of it has passed, in [0, 1)."""
    day = day_of(instant)
    midnight = at(day)
    return day, (instant - midnight) / (at(day + 1) - midnight)


@cache
def wall_hours(day: int) -> tuple[int, ...]:
    """The hours that the wall clock shows on that day: one is missing in spring, one comes twice in autumn."""
    hours = round((at(day + 1) - at(day)) / HOUR)
    if hours == 24:
        return tuple(range(24))
    return (0, 1, *range(3, 24)) if hours == 23 else (0, 1, 2, *range(2, 24))


def is_weekend(day: int) -> bool:
    """Whether the day is a Saturday or a Sunday."""
    return day % 7 in (6, 0)


class DailyTotals:
    """Running totals of a quantity per day, extended as far as they are asked for.

    Summing in one order, from `FIRST_DAY` on, gives the same bits after every restart.
    """

    def __init__(self, of_day: Callable[[int], float]) -> None:
        self._of_day = of_day
        self._before = [0.0]

    def before(self, day: int) -> float:
        """The sum over all days from `FIRST_DAY` up to, and without, that day.

        Raises:
            ValueError: the day lies before the city's first.
        """
        index = day - FIRST_DAY
        if index < 0:
            raise ValueError(f"the simulated city begins on {date.fromordinal(FIRST_DAY)}")
        while len(self._before) <= index:
            last = FIRST_DAY + len(self._before) - 1
            self._before.append(self._before[-1] + self._of_day(last))
        return self._before[index]


def noise(seed: int, *moments: int) -> float:
    """A number in [0, 1) that is evenly spread and fixed for its arguments (SplitMix64)."""
    mixed = seed & _MASK
    for moment in moments:
        mixed = (mixed ^ (moment & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _MASK
        mixed ^= mixed >> 31
    return (mixed >> 11) / (1 << 53)


def between(low: float, high: float, share: float) -> float:
    """The point at `share` (0 to 1) of the way from low to high."""
    return low + (high - low) * share
