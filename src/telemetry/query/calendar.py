"""Windows of a calendar: where the buckets of a question begin and end, as instants.

Days, weeks (from Monday), months and years are those of the asked time zone, so a day has 23 or 25 hours twice a year.
Windows below a day are laid in absolute time from each local midnight on: a 25-hour day has 25 one-hour buckets, and
where a day's length is no multiple of the window, its last bucket is shorter. Buckets are half-open and labelled by
their start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Literal
from zoneinfo import ZoneInfo

from telemetry.errors import InvalidQuery

WINDOWS = ("1m", "5m", "10m", "15m", "30m", "1h", "2h", "3h", "4h", "6h", "8h", "12h", "1d", "1w", "1mo", "1y")
"""The usual ones; any whole number of minutes that divides a day evenly is available."""

Unit = Literal["minute", "day", "week", "month", "year"]

_DAY_MINUTES = 24 * 60
_SHORT = re.compile(r"(\d{1,6})(mo|m|h|d|w|y)", re.ASCII)
_ISO_TIME = re.compile(r"PT(?=\d)(?:(\d{1,6})H)?(?:(\d{1,6})M)?", re.ASCII)
_ISO_DATE = re.compile(r"P(\d{1,6})([DWMY])", re.ASCII)
_CALENDAR: dict[str, Unit] = {"d": "day", "w": "week", "mo": "month", "y": "year"}
_ISO_UNITS = {"D": "d", "W": "w", "M": "mo", "Y": "y"}
_NOMINAL = {
    "minute": timedelta(minutes=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=31),
    "year": timedelta(days=366),
}


@dataclass(frozen=True, slots=True)
class Window:
    """The width of a bucket: one calendar unit, or a number of minutes that divides a day evenly."""

    unit: Unit
    minutes: int = 0

    def __str__(self) -> str:
        """As `parse_window` reads it, in its shortest form."""
        if self.unit != "minute":
            return "1" + next(short for short, unit in _CALENDAR.items() if unit == self.unit)
        hours, minutes = divmod(self.minutes, 60)
        return f"{self.minutes}m" if minutes else f"{hours}h"

    @property
    def nominal(self) -> timedelta:
        """Its usual length; for months and years the greatest."""
        return _NOMINAL[self.unit] * (self.minutes or 1)


def parse_window(text: str) -> Window:
    """The window of a short name (`15m`, `1h`, `1d`, `1w`, `1mo`, `1y`) or an ISO 8601 duration (`PT15M`, `P1D`).

    Raises:
        InvalidQuery: it is no window, or one whose buckets would not fit into the calendar.
    """
    amount, unit = _amount(text)
    if amount is None:
        raise InvalidQuery("window", text, "is neither a short window nor an ISO 8601 duration", WINDOWS)
    if unit in _CALENDAR and amount == 1:
        return Window(_CALENDAR[unit])
    minutes = {"m": amount, "h": amount * 60}.get(unit, 0)
    if 0 < minutes < _DAY_MINUTES and _DAY_MINUTES % minutes == 0:
        return Window("minute", minutes)
    raise InvalidQuery(
        "window",
        text,
        "is not available: a window is a number of minutes or hours that divides a day evenly, "
        "or one day, week, month or year of the calendar",
        WINDOWS,
    )


def bucket_edges(window: Window, start: datetime, end: datetime, zone: ZoneInfo) -> list[datetime]:
    """The edges of the buckets that hold `[start, end)`, rising, in UTC.

    The first is at or before `start`, the last at or after `end`; bucket i lies between edges i and i + 1.
    """
    edges: list[datetime] = []
    for edge in _edges(window, start.astimezone(zone).date(), zone):
        if edge <= start:
            edges = [edge]
        # A day that a zone skipped (Samoa, 30 December 2011) begins where the next one does.
        elif edge > edges[-1]:
            edges.append(edge)
        if edge >= end:
            break
    return edges


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The instant at which a day of the zone begins, in UTC; the first one where midnight is repeated."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def has_one_midnight(day: date, zone: ZoneInfo) -> bool:
    """Whether the clocks of the zone show the midnight of that day exactly once."""
    local = datetime(day.year, day.month, day.day, tzinfo=zone)
    return local.utcoffset() == local.replace(fold=1).utcoffset()


def _amount(text: str) -> tuple[int | None, str]:
    if match := _SHORT.fullmatch(text):
        return int(match[1]), match[2]
    if match := _ISO_DATE.fullmatch(text):
        return int(match[1]), _ISO_UNITS[match[2]]
    if match := _ISO_TIME.fullmatch(text):
        return int(match[1] or 0) * 60 + int(match[2] or 0), "m"
    return None, ""


def _edges(window: Window, day: date, zone: ZoneInfo) -> Iterator[datetime]:
    if window.unit != "minute":
        return (midnight(each, zone) for each in _days(window.unit, day))
    return _within_days(timedelta(minutes=window.minutes), day, zone)


def _within_days(step: timedelta, day: date, zone: ZoneInfo) -> Iterator[datetime]:
    for today, tomorrow in pairwise(midnight(each, zone) for each in _days("day", day)):
        edge = today
        while edge < tomorrow:
            yield edge
            edge += step


def _days(unit: Unit, day: date) -> Iterator[date]:
    """The first days of the units, from the one that holds `day` on, without end."""
    match unit:
        case "month":
            day = day.replace(day=1)
        case "year":
            day = day.replace(month=1, day=1)
        case "week":
            day -= timedelta(days=day.weekday())
    while True:
        yield day
        match unit:
            case "year":
                day = day.replace(year=day.year + 1)
            case "month":
                day = (day + timedelta(days=31)).replace(day=1)
            case "week":
                day += timedelta(weeks=1)
            case _:
                day += timedelta(days=1)
