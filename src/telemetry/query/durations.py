"""Lengths of absolute time as people write them."""

from __future__ import annotations

import re
from datetime import timedelta

from telemetry.errors import InvalidQuery

DURATIONS = ("90s", "15m", "2h", "1d", "PT15M", "P1DT12H")

_SHORT = re.compile(r"(\d{1,9})([smhdw])", re.ASCII)
_ISO = re.compile(r"P(?=\d|T\d)(?:(\d{1,6})D)?(?:T(?=\d)(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9})S)?)?", re.ASCII)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
"""Of absolute time, as `timedelta` calls them."""
_MOST = timedelta(days=36600)


def parse_duration(parameter: str, text: str) -> timedelta:
    """A length of time, `15m` or ISO 8601 `PT15M`; a day is 24 hours.

    Raises:
        InvalidQuery: it is none, nothing at all, or longer than a century.
    """
    if short := _SHORT.fullmatch(text):
        amounts = {UNITS[short[2]]: int(short[1])}
    elif iso := _ISO.fullmatch(text):
        names = ("days", "hours", "minutes", "seconds")
        amounts = {name: int(part) for name, part in zip(names, iso.groups(), strict=True) if part}
    else:
        raise InvalidQuery(parameter, text, "is no duration", DURATIONS)
    try:
        duration = timedelta(**amounts)
    except OverflowError:
        duration = timedelta.max
    if not timedelta(0) < duration <= _MOST:
        raise InvalidQuery(parameter, text, "must be longer than nothing and at most a century", DURATIONS)
    return duration
