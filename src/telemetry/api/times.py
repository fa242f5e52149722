"""Columns of instants as text: all of a minute share most of it, and to make it takes as long as the rest of a row."""

from __future__ import annotations

from collections.abc import Iterable
from zoneinfo import ZoneInfo

from telemetry.query.instants import format_instant, instant

_SECOND_US = 1_000_000
_MINUTE_US = 60 * _SECOND_US
_SECONDS = [f"{second:02d}" for second in range(60)]


class Times(dict[int, tuple[str, str] | None]):
    """The texts that `format_instant` gives. By minute since 1970: what comes before and behind the seconds.

    None for a minute in which the zone was off by odd seconds, as Monrovia was until 1972: there each instant is made
    by itself. Every other change of an offset is on a whole minute.
    """

    def __init__(self, zone: ZoneInfo) -> None:
        super().__init__()
        self._zone = zone

    def __missing__(self, minute: int) -> tuple[str, str] | None:
        text = format_instant(instant(minute * _MINUTE_US), self._zone)
        self[minute] = parts = (text[:17], text[19:]) if text[16:19] == ":00" and len(text) == 25 else None
        return parts

    def texts(self, column: Iterable[int]) -> list[str]:
        """Instants, in µs since 1970, as RFC 3339 with the zone's offset."""
        found = []
        for us in column:
            minute, rest = divmod(us, _MINUTE_US)
            if (parts := self[minute]) is None:
                found.append(format_instant(instant(us), self._zone))
                continue
            seconds, fraction = divmod(rest, _SECOND_US)
            text = f"{_SECONDS[seconds]}.{fraction:06d}" if fraction else _SECONDS[seconds]
            found.append(f"{parts[0]}{text}{parts[1]}")
        return found


def seconds_between(column: Iterable[int], until: int) -> list[float]:
    """Seconds from each instant to a later one, all in µs; 0 for what lies behind it."""
    return [(until - us) / _SECOND_US if us < until else 0.0 for us in column]
