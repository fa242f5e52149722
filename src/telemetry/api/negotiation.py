"""Which form of an answer a request asks for: `format`, or the header `Accept` (RFC 9110)."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Query, Request

from telemetry.api.problems import Problem
from telemetry.errors import InvalidQuery


class Format(StrEnum):
    """Forms of an answer, in order of preference."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    ARROW = "arrow"
    PARQUET = "parquet"
    EXCEL = "excel"

    @property
    def media_type(self) -> str:
        """As in `Content-Type`."""
        return _CONTENT_TYPES.get(self, MEDIA_TYPES[self][0])

    @property
    def is_csv(self) -> bool:
        """Whether it has lines of cells."""
        return self in (Format.CSV, Format.EXCEL)

    @property
    def is_table(self) -> bool:
        """Whether it has typed columns rather than text."""
        return self in (Format.ARROW, Format.PARQUET)


MEDIA_TYPES = {
    Format.JSON: ("application/json",),
    Format.NDJSON: ("application/x-ndjson", "application/ndjson", "application/jsonl"),
    Format.CSV: ("text/csv",),
    Format.ARROW: ("application/vnd.apache.arrow.stream",),
    Format.PARQUET: ("application/vnd.apache.parquet",),
    Format.EXCEL: ("text/csv",),
}
"""Names under which a form can be asked for, its own first; `excel` is a dialect that only `format` names."""
OTHER_TYPES = tuple(dict.fromkeys(MEDIA_TYPES[each][0] for each in Format if each is not Format.JSON))
_CONTENT_TYPES = {
    Format.CSV: "text/csv; charset=utf-8; header=present",
    Format.EXCEL: "text/csv; charset=utf-8; header=present",
}

Ranges = dict[str, tuple[float, int]]
"""What `Accept` names: quality and position by media range."""


async def _format(
    request: Request,
    format: Annotated[  # noqa: A002 - the parameter's name is a contract
        str | None,
        Query(
            description="`json`, `ndjson` (one row per line), `csv`, `excel` (CSV as a French Excel opens it), `arrow` "
            "(IPC stream) or `parquet`; otherwise `Accept` decides."
        ),
    ] = None,
) -> Format:
    """The form that the request asks for.

    Raises:
        InvalidQuery: `format` names none.
        Problem: 406, nothing that `Accept` names is available.
    """
    if format is not None:
        try:
            return Format(format)
        except ValueError:
            raise InvalidQuery("format", format, "is no format", tuple(Format)) from None
    accept = ", ".join(request.headers.getlist("accept")) or "*/*"
    ranges = dict(_ranges(accept))
    found = [(-quality, position, form) for form in Format for quality, position in _matches(ranges, form) if quality]
    if found:
        return min(found, key=lambda each: each[:2])[2]
    types = list(dict.fromkeys(MEDIA_TYPES[each][0] for each in Format))
    detail = f"nothing of {accept!r} is available; there is {', '.join(types)}"
    raise Problem(HTTPStatus.NOT_ACCEPTABLE, "not-acceptable", detail, parameter="Accept", given=accept, allowed=types)


TheFormat = Annotated[Format, Depends(_format)]


def _ranges(accept: str) -> Iterator[tuple[str, tuple[float, int]]]:
    for position, part in enumerate(accept.split(",")):
        media_range, *parameters = (each.strip().lower() for each in part.split(";"))
        quality = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        try:
            value = float(quality)
        except ValueError:
            continue
        if 0 <= value <= 1:
            yield media_range, (value, position)


def _matches(ranges: Ranges, form: Format) -> Iterator[tuple[float, int]]:
    """Quality and position of the range that fits each name of a form best."""
    for name in MEDIA_TYPES[form]:
        for media_range in (name, name.partition("/")[0] + "/*", "*/*"):
            if media_range in ranges:
                yield ranges[media_range]
                break
