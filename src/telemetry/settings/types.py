"""Values as people write them in settings: durations `100ms`, `15s`, `5m`, `12h`, `7d`, `1w`; sizes `64KiB`, `4MiB`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZES = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def parse_duration(value: Any) -> Any:
    """`"5m"` as a timedelta; a plain number is seconds.

    Whatever is a short duration in a question is one here, too; a question knows no fractions and no milliseconds.
    """
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)", value.strip())):
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    if isinstance(value, str):
        raise ValueError("write a duration as 100ms, 15s, 5m, 12h, 7d or 1w")
    return value


def format_duration(value: timedelta) -> str:
    """The shortest way to write a duration that `parse_duration` reads back."""
    # Weeks are read, but days are what people compare.
    written = [each for each in _UNITS.items() if each[0] != "w"]
    for unit, seconds in sorted(written, key=lambda item: -item[1]):
        amount = value.total_seconds() / seconds
        if amount >= 1 and amount == int(amount):
            return f"{int(amount)}{unit}"
    return f"{value.total_seconds()}s"


def parse_size(value: Any) -> Any:
    """`"4MiB"` as a number of bytes."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+)\s*(B|KiB|MiB|GiB)?", value.strip())
        if match is None:
            raise ValueError("write a size as 65536, 64KiB, 4MiB or 1GiB")
        return int(match[1]) * _SIZES[match[2] or ""]
    return value


def _longer_than_nothing(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("a duration longer than 0 is needed")
    return value


def allowed(pattern: str, sentence: str) -> AfterValidator:
    """Texts of a pattern only; the sentence tells people which these are."""

    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(sentence)
        return value

    return AfterValidator(check)


def quantity(default: str, description: str) -> Any:
    """A duration or a size whose default is written as people write it; it is read like any other value."""
    return Field(default, description=description)


Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration), AfterValidator(_longer_than_nothing)
]
Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
Port = Annotated[int, Field(ge=1, le=65535)]
