"""The words of questions: which there are, and how they are written into a URL."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Literal, TypeAlias
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

Word: TypeAlias = str | float | bool | date | timedelta
Given: TypeAlias = Word | Iterable[Word] | None


def parameters(**given: Given) -> Parameters:
    """Query parameters; None leaves one out.

    Raises:
        InvalidArgument: a time has no zone, or a sequence is empty, which would be a question about everything.
    """
    return tuple((name, text) for name, value in given.items() if value is not None for text in _texts(name, value))


def segment(text: str) -> str:
    """A part of a path."""
    return quote(text, safe="")


def instant(name: str, value: datetime) -> str:
    """A time as text, in UTC and to the microsecond.

    Raises:
        InvalidArgument: it has no time zone.
    """
    if value.utcoffset() is None:
        raise InvalidArgument(
            f"{name}: {value} has no time zone, so it is no instant; "
            "allowed: datetime(…, tzinfo=ZoneInfo('Europe/Paris')), '2026-03-29T00:00:00+01:00', '-24h', 'now'"
        )
    return value.astimezone(UTC).isoformat()


def _texts(name: str, value: Word | Iterable[Word]) -> list[str]:
    # By what it can do: frames have sequences, and numbers, of their own.
    if isinstance(value, str) or not isinstance(value, Iterable):
        return [_text(name, value)]
    texts = [_text(name, each) for each in value]
    if not texts:
        raise InvalidArgument(
            f"{name}: an empty sequence would ask about nothing; allowed: one or more, or None for all"
        )
    return texts


def _text(name: str, value: Word) -> str:
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
    return str(value)


def _seconds(name: str, value: timedelta) -> str:
    seconds = value.total_seconds()
    if seconds <= 0 or seconds % 1:
        raise InvalidArgument(f"{name}: {value} is not allowed; allowed: whole seconds, one or more")
    return f"{seconds:.0f}s"
