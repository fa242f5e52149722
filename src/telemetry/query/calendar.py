"""Windows of a calendar: where the buckets of a question begin and end, as instants.

Days, weeks (from Monday), months and years are those of the asked time zone, so a day has 23 or 25 hours twice a year.
Windows below a day follow the clocks on the wall: a bucket begins where they show a multiple of the window.
- The hour that the clocks repeat: windows up to that length have buckets of their own in both passes, told apart by the
  offset of their labels; a longer window holds both passes and is longer by them.
- The hour that they skip: a bucket that would begin in it begins with the first instant after it.
Buckets are half-open and labelled by their start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import chain
from typing import Literal
from zoneinfo import ZoneInfo

from telemetry.errors import InvalidQuery
from telemetry.query.edges import Edges, single, steps

WINDOWS = (
    *("1s", "10s", "1m", "5m", "10m", "15m", "30m"),
    *("1h", "2h", "3h", "4h", "6h", "8h", "12h", "1d", "1w", "1mo", "1y"),
)
"""The usual ones; any whole number of seconds that divides a day evenly is available."""

Unit = Literal["second", "day", "week", "month", "year"]

_DAY_S = 24 * 60 * 60
_LEAST = timedelta(microseconds=1)
_SHORT = re.compile(r"(\d{1,6})(mo|s|m|h|d|w|y)", re.ASCII)
_ISO_TIME = re.compile(r"PT(?=\d)(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,6})S)?", re.ASCII)
_ISO_DATE = re.compile(r"P(\d{1,6})([DWMY])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_CALENDAR: dict[str, Unit] = {"d": "day", "w": "week", "mo": "month", "y": "year"}
_ISO_UNITS = {"D": "d", "W": "w", "M": "mo", "Y": "y"}
_NOMINAL = {
    "second": timedelta(seconds=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=31),
    "year": timedelta(days=366),
}


@dataclass(frozen=True, slots=True)
class Window:
    """The width of a bucket: one calendar unit, or a number of seconds that divides a day evenly."""

    unit: Unit
    seconds: int = 0

    def __str__(self) -> str:
        """As `parse_window` reads it, in its shortest form."""
        if self.unit != "second":
            return "1" + next(short for short, unit in _CALENDAR.items() if unit == self.unit)
        short = next(short for short in ("h", "m", "s") if self.seconds % _SECONDS[short] == 0)
        return f"{self.seconds // _SECONDS[short]}{short}"

    @property
    def nominal(self) -> timedelta:
        """Its usual length; for months and years the greatest."""
        return _NOMINAL[self.unit] * (self.seconds or 1)


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
    seconds = amount * _SECONDS.get(unit, 0)
    if 0 < seconds < _DAY_S and _DAY_S % seconds == 0:
        return Window("second", seconds)
    raise InvalidQuery(
        "window",
        text,
        "is not available: a window is a number of seconds, minutes or hours that divides a day evenly, "
        "or one day, week, month or year of the calendar (a day is no 24h when the clocks change)",
        WINDOWS,
    )


def bucket_edges(window: Window, start: datetime, end: datetime, zone: ZoneInfo) -> Edges:
    """The edges of the buckets that hold `[start, end)`, rising, in UTC.

    The first is at or before `start`, the last at or after `end`; bucket i lies between edges i and i + 1.
    """
    return Edges.around(_pieces(window, start.astimezone(zone).date(), zone), start, end)


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
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return (hours * 60 + minutes) * 60 + seconds, "s"
    return None, ""


def _pieces(window: Window, day: date, zone: ZoneInfo) -> Iterator[range]:
    if window.unit != "second":
        return (single(midnight(each, zone)) for each in _days(window.unit, day))
    return _within_days(timedelta(seconds=window.seconds), day, zone)


def _within_days(step: timedelta, day: date, zone: ZoneInfo) -> Iterator[range]:
    return chain.from_iterable(_within_day(step, each, zone) for each in _days("day", day))


@lru_cache(maxsize=4096)
def _within_day(step: timedelta, day: date, zone: ZoneInfo) -> tuple[range, ...]:
    """Edges of a day; dashboards ask about the same days again and again."""
    today, tomorrow = midnight(day, zone), midnight(day + timedelta(days=1), zone)
    if _offset(today, zone) == _offset(tomorrow, zone):
        return tuple(_without_change(today, tomorrow, step, zone))
    return tuple(_around_change(today, tomorrow, step, zone)) if today < tomorrow else ()


def _without_change(today: datetime, tomorrow: datetime, step: timedelta, zone: ZoneInfo) -> Iterator[range]:
    """Edges of a day in which the clocks run evenly; where they skipped midnight, it began at another time."""
    local = today.astimezone(zone)
    shown = timedelta(hours=local.hour, minutes=local.minute, seconds=local.second)
    first = today + -shown % step
    if first > today:
        yield single(today)
    yield steps(first, tomorrow, step)


def _around_change(today: datetime, tomorrow: datetime, step: timedelta, zone: ZoneInfo) -> Iterator[range]:
    """Edges of a day in which the clocks change."""
    change = _change(today, tomorrow, zone)
    yield steps(today, change, step)
    before, after = _offset(change - _LEAST, zone), _offset(change, zone)
    shown = change - today  # what the clocks would show, counted from midnight
    jumped = shown + after - before
    if jumped > shown:
        # The multiples that they skip, the one that they reach included.
        if jumped // step * step >= shown:
            yield single(change)
        following = (jumped // step + 1) * step
    elif step <= shown - jumped:
        yield single(change)
        following = (jumped // step + 1) * step
    else:
        following = -(-shown // step) * step
    yield steps(change + following - jumped, tomorrow, step)


def _change(start: datetime, end: datetime, zone: ZoneInfo) -> datetime:
    """The first instant of the offset that the zone has at the end; clocks change on whole seconds."""
    old, low, high = _offset(start, zone), 0, int((end - start).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(start + timedelta(seconds=middle), zone) == old else (low, middle)
    return start + timedelta(seconds=high)


def _offset(instant: datetime, zone: ZoneInfo) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


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
