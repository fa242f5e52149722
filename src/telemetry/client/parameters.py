"""The parameters of questions: which there are, and how they are written into a URL."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from numbers import Real
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from telemetry.client.errors import InvalidArgument
from telemetry.client.exchange import Parameters

Aggregate = Literal[
    "avg",
    "min",
    "max",
    "sum",
    "count",
    "first",
    "last",
    "stddev",
    "p50",
    "p90",
    "p95",
    "p99",
    "time_avg",
    "integral",
    "increase",
    "rate",
    "share",
    "duration",
]
By = Literal["none", "device", "zone"]
Combine = Literal["rows", "sum", "mean"]
Fill = Literal["none", "null", "zero", "locf", "linear"]
Reset = Literal["zero", "first"]
Order = Literal["asc", "desc"]
Kind = Literal["gauge", "counter", "state"]
Format = Literal["json", "ndjson", "csv", "excel", "arrow", "parquet"]
Reason = Literal[
    "malformed",
    "schema",
    "out_of_range",
    "unknown_topic",
    "unknown_device",
    "device_mismatch",
    "clock_future",
    "clock_past",
    "beyond_retention",
    "conflict",
    "oversize",
    "rejected_by_database",
]

Instant: TypeAlias = datetime | str
"""A datetime with a time zone, or text: RFC 3339 with an offset, `now`, `-24h`, `-7d`."""
Names: TypeAlias = str | Iterable[str]
"""One or several; never none: leave the parameter out for all."""
Duration: TypeAlias = timedelta | str
"""A timedelta, or text: `2h`, `PT15M`."""

Word: TypeAlias = str | float | date | timedelta
Given: TypeAlias = Word | Iterable[Word] | None


def parameters(**given: Given) -> Parameters:
    """Query parameters; None leaves one out.

    Raises:
        InvalidArgument: a time has no zone, a sequence is empty, which would be a question about everything, or a value
            is none that a URL can tell.
    """
    return tuple((name, each) for name, value in given.items() if value is not None for each in _texts(name, value))


def segment(name: str, given: str) -> str:
    """A part of a path.

    Raises:
        InvalidArgument: it is no text, or an empty one, with which the path would be another.
    """
    if not isinstance(given, str) or not given:
        raise InvalidArgument(f"{name}: {given!r} is not allowed; allowed: text of one character or more")
    return quote(_writable(name, given), safe="")


def fields(**given: object) -> dict[str, Any]:
    """Members of a JSON object.

    Raises:
        InvalidArgument: one is no text and no number, or a number that JSON does not have.
    """
    return {name: _field(name, value) for name, value in given.items()}


def instant(name: str, value: datetime) -> str:
    """A time as text, in UTC and to the microsecond.

    Raises:
        InvalidArgument: it has no time zone, or is in no year of UTC from 1 to 9999.
    """
    if value.utcoffset() is None:
        raise InvalidArgument(
            f"{name}: {value} has no time zone, so it is no instant; "
            "allowed: datetime(…, tzinfo=ZoneInfo('Europe/Paris')), '2026-03-29T00:00:00+01:00', '-24h', 'now'"
        )
    try:
        return value.astimezone(UTC).isoformat()
    except OverflowError:
        raise InvalidArgument(f"{name}: {value} is in no year of UTC; allowed: years 1 to 9999") from None


def text(name: str, value: object) -> str:
    """A word as it is sent.

    Raises:
        InvalidArgument: a time has no zone, or it is none that a URL can tell.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            return instant(name, value)
        case date():
            raise InvalidArgument(
                f"{name}: {value} is a day, which begins at another instant in every time zone; "
                "allowed: datetime(…, tzinfo=ZoneInfo('Europe/Paris')), '2026-03-29T00:00:00+01:00', '-7d'"
            )
        case timedelta():
            return _seconds(name, value)
        case None | bytes():
            raise InvalidArgument(f"{name}: {value!r} is not allowed; allowed: text, numbers and times")
    return _writable(name, str(value))


def _texts(name: str, value: Word | Iterable[Word]) -> list[str]:
    # By what it can do: frames have sequences, and numbers, of their own.
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        return [text(name, value)]
    texts = [text(name, each) for each in value]
    if not texts:
        raise InvalidArgument(
            f"{name}: an empty sequence would ask about nothing; allowed: one or more, or None for all"
        )
    return texts


def _field(name: str, value: object) -> str | float | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _writable(name, value)
    # numpy's numbers are Real, decimals are not.
    number = _finite(value) if isinstance(value, (Real, Decimal)) else None
    if number is None:
        raise InvalidArgument(f"{name}: {value!r} is not allowed; allowed: text, and numbers that are finite")
    return number


def _finite(value: Real | Decimal) -> float | None:
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _writable(name: str, given: str) -> str:
    """Half a character (a lone surrogate) is none of UTF-8."""
    try:
        given.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{name}: {given!r} is no text that can be sent; allowed: whole characters") from None
    return given


def _seconds(name: str, value: timedelta) -> str:
    seconds = value.total_seconds()
    if seconds <= 0 or seconds % 1:
        raise InvalidArgument(f"{name}: {value} is not allowed; allowed: whole seconds, one or more")
    return f"{seconds:.0f}s"
