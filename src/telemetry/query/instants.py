"""Points in time and time zones as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from telemetry.errors import InvalidQuery
from telemetry.query.durations import UNITS

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
FIXED = ("2026-03-29T00:00:00+01:00", "2026-03-28T23:00:00Z")
INSTANTS = (*FIXED, "now", "-15m", "-24h", "-7d", "-1w")
"""Examples of every form, for error messages and documentation."""

# A "+" that was not percent-encoded reaches us as a blank; an offset is the only thing that may follow it there.
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(?:([Zz])|([+ -])(\d{2}:\d{2}))", re.ASCII
)
_RELATIVE = re.compile(r"-(\d{1,9})([smhdw])", re.ASCII)
_MICROSECOND = timedelta(microseconds=1)


def parse_instant(parameter: str, text: str, now: datetime) -> datetime:
    """The instant in UTC: RFC 3339 with an offset, `now`, or a span of absolute time before now (`-24h`, `-7d`).

    Raises:
        InvalidQuery: none of these, or outside 1970 to 2200.
    """
    instant = now if text == "now" else _relative(text, now) or _absolute(text)
    if instant is None:
        raise InvalidQuery(parameter, text, "is no time with an offset and no relative time", INSTANTS)
    return _bounded(parameter, text, instant, INSTANTS)


def parse_fixed(parameter: str, text: str) -> datetime:
    """The instant in UTC: RFC 3339 with an offset.

    Raises:
        InvalidQuery: it is none, or outside 1970 to 2200.
    """
    instant = _absolute(text)
    if instant is None:
        raise InvalidQuery(parameter, text, "is no time with an offset", FIXED)
    return _bounded(parameter, text, instant, FIXED)


def parse_zone(parameter: str, text: str) -> ZoneInfo:
    """The time zone of that IANA name.

    Raises:
        InvalidQuery: there is none.
    """
    if text not in _zones():
        allowed = ("Europe/Paris", "Asia/Kolkata", "America/New_York", "UTC", "…")
        raise InvalidQuery(parameter, text, "is no IANA time zone", allowed)
    return ZoneInfo(text)


@cache
def _zones() -> frozenset[str]:
    # The zone of the machine, which some systems have as a file, is no answer for anybody else; the other is no zone.
    return frozenset(available_timezones() - {"localtime", "Factory"})


def microseconds(at: datetime) -> int:
    """Whole microseconds since 1970, which is all that the database keeps."""
    return (at - EARLIEST) // _MICROSECOND


def instant(value: int) -> datetime:
    """The instant so many microseconds after 1970 began."""
    return EARLIEST + value * _MICROSECOND


def format_instant(instant: datetime, zone: ZoneInfo) -> str:
    """RFC 3339 with the zone's offset at that instant, so that both passes of a repeated hour can be told apart."""
    return instant.astimezone(zone).isoformat()


def format_utc(instant: datetime) -> str:
    """RFC 3339 in UTC, with `Z`."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _bounded(parameter: str, text: str, instant: datetime, allowed: tuple[str, ...]) -> datetime:
    if not EARLIEST <= instant < LATEST:
        raise InvalidQuery(parameter, text, f"is not between {EARLIEST:%Y-%m-%d} and {LATEST:%Y-%m-%d}", allowed)
    return instant.astimezone(UTC)


def _relative(text: str, now: datetime) -> datetime | None:
    match = _RELATIVE.fullmatch(text)
    if match is None:
        return None
    try:
        return now - timedelta(**{UNITS[match[2]]: int(match[1])})
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _absolute(text: str) -> datetime | None:
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    day, time, fraction, utc, sign, offset = match.groups()
    # Finer than the microseconds that the database keeps is cut off.
    zone = "+00:00" if utc else f"{'-' if sign == '-' else '+'}{offset}"
    try:
        return datetime.fromisoformat(f"{day}T{time}.{(fraction or '0')[:6]:0<6}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
