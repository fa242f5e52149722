"""In which form an answer is sent: JSON, one JSON object per line, or CSV; whole or as a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic_core import to_json

from telemetry.api.problems import Problem
from telemetry.errors import InvalidQuery

WHOLE = 20_000
"""Rows that an answer may have to be sent in one piece, with its length; a longer one is streamed."""


class Format(StrEnum):
    """Forms of an answer, in order of preference."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"

    @property
    def media_type(self) -> str:
        """As in `Content-Type`."""
        return _MEDIA_TYPES[self]


_MEDIA_TYPES = {
    Format.JSON: "application/json",
    Format.NDJSON: "application/x-ndjson",
    Format.CSV: "text/csv; charset=utf-8; header=present",
}
ROWS_OF_TEXT = ("application/x-ndjson", "text/csv")
"""Media types beside JSON, for the documentation."""
_ACCEPTED = {
    "*/*": Format.JSON,
    "application/*": Format.JSON,
    "application/json": Format.JSON,
    "application/x-ndjson": Format.NDJSON,
    "application/ndjson": Format.NDJSON,
    "application/jsonl": Format.NDJSON,
    "text/csv": Format.CSV,
    "text/*": Format.CSV,
}


async def _format(
    request: Request,
    format: Annotated[  # noqa: A002 - the parameter's name is a contract
        str | None, Query(description="`json`, `ndjson` (one row per line) or `csv`; otherwise `Accept` decides.")
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
    accept = request.headers.get("accept", "*/*")
    for media_type in _by_preference(accept):
        if media_type in _ACCEPTED:
            return _ACCEPTED[media_type]
    types = [each.media_type.partition(";")[0] for each in Format]
    detail = f"nothing of {accept!r} is available; there is {', '.join(types)}"
    raise Problem(HTTPStatus.NOT_ACCEPTABLE, "not-acceptable", detail, parameter="Accept", given=accept, allowed=types)


TheFormat = Annotated[Format, Depends(_format)]


def _by_preference(accept: str) -> list[str]:
    ranked = []
    for position, part in enumerate(accept.split(",")):
        media_type, *parameters = (each.strip().lower() for each in part.split(";"))
        quality = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        try:
            ranked.append((-float(quality), position, media_type))
        except ValueError:
            continue
    return [media_type for quality, _, media_type in sorted(ranked) if quality < 0]


def body(form: Format, meta: Mapping[str, Any], rows: Iterator[Sequence[str]], header: str) -> Iterator[bytes]:
    """The pieces of an answer from rows that are text already.

    Args:
        rows: JSON objects, or lines of CSV for that format.
        header: first line of CSV.
    """
    if form is Format.JSON:
        yield b'{"meta":' + to_json(meta) + b',"data":['
        separator = ""
        for texts in rows:
            yield (separator + ",".join(texts)).encode() if texts else b""
            separator = "," if texts else separator
        yield b"]}"
        return
    if form is Format.CSV:
        yield f"{header}\r\n".encode()
    end = "\r\n" if form is Format.CSV else "\n"
    for texts in rows:
        yield "".join(f"{text}{end}" for text in texts).encode()


def respond(form: Format, pieces: Iterator[bytes], size: int, headers: Mapping[str, str] | None = None) -> Response:
    """The answer, in one piece where it is small."""
    if size <= WHOLE:
        return Response(b"".join(pieces), headers=headers, media_type=form.media_type)
    return StreamingResponse(_stream(pieces), headers=headers, media_type=form.media_type)


async def _stream(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        if piece:
            yield piece
