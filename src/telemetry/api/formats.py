"""How an answer is sent: whole or as a stream, as text or as a table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import structlog
from fastapi import Response
from fastapi.responses import StreamingResponse
from pydantic_core import to_json
from starlette.types import Message, Send

from telemetry.api.bodies import PiecesResponse
from telemetry.api.negotiation import Format
from telemetry.api.problems import BrokenStream
from telemetry.query.turns import portions
from telemetry.store.failures import in_words

log = structlog.get_logger()

WHOLE = 20_000
"""Rows that an answer may have to be sent in one piece, with its length; a longer one is streamed …"""
WHOLE_VALUES = 500_000
"""… as is one that has more values."""
PATIENCE_S = 60.0
"""A client that takes nothing of a stream for so long is left, for it keeps a connection to the database."""

SEPARATORS = {Format.JSON: ",", Format.NDJSON: "\n", Format.CSV: "\r\n", Format.EXCEL: "\r\n"}
"""What comes between two rows of text."""

Rows = TypeVar("Rows", contravariant=True)


class Body(Protocol[Rows]):
    """An answer on its way into bytes. What is sent without `end` must not look complete."""

    def begin(self) -> bytes:
        """What comes before the first row."""

    async def add(self, rows: Rows) -> bytes:
        """The next rows, as far as they can be sent already."""

    async def end(self) -> bytes:
        """What completes the answer."""


class TextBody:
    """JSON, lines of JSON or lines of CSV, from rows that are text already: each a row, or several with the separator.

    Args:
        header: first line of CSV.
    """

    def __init__(self, form: Format, meta: Mapping[str, Any], header: str) -> None:
        self._is_json = form is Format.JSON
        self._line_end = SEPARATORS[form]
        self._begin = {
            Format.JSON: b'{"meta":' + to_json(meta) + b',"data":[',
            Format.NDJSON: b"",
            Format.CSV: f"{header}\r\n".encode(),
            Format.EXCEL: f"{header}\r\n".encode(),
        }[form]
        self._separator = ""

    def begin(self) -> bytes:
        """What comes before the first row."""
        return self._begin

    async def add(self, rows: Sequence[str]) -> bytes:
        """JSON objects, or lines of CSV."""
        if not self._is_json:
            return "".join(f"{row}{self._line_end}" for row in rows).encode()
        if not rows:
            return b""
        text = self._separator + ",".join(rows)
        self._separator = ","
        return text.encode()

    async def end(self) -> bytes:
        """What completes the answer."""
        return b"]}" if self._is_json else b""


def complete_header(meta: Mapping[str, Any]) -> dict[str, str]:
    """`complete_from` for forms that have no `meta`, where the answer may not be complete."""
    return {"Telemetry-Complete-From": meta["complete_from"]} if meta["complete_from"] else {}


async def whole(form: Format, body: Body[Rows], rows: Iterable[Rows], headers: Mapping[str, str]) -> Response:
    """The answer in one piece, made a portion of rows at a time."""
    pieces = [body.begin()]
    async for (each,) in portions(rows, 1):
        pieces.append(await body.add(each))
    pieces.append(await body.end())
    return PiecesResponse(pieces, headers, media_type=form.media_type)


def streamed(
    form: Format, body: Body[Rows], rows: AsyncIterator[Rows], headers: Mapping[str, str], within: timedelta
) -> Response:
    """The answer piece by piece. If the rows end with an error, or it is not sent `within` that time, the connection is
    closed before the last chunk, which every client reports.
    """
    return _Stream(_pieces(body, rows), within, headers=headers, media_type=form.media_type)


async def _pieces(body: Body[Rows], rows: AsyncIterator[Rows]) -> AsyncIterator[bytes]:
    yield body.begin()
    try:
        async for each in rows:
            if piece := await body.add(each):
                yield piece
    except Exception as error:
        log.warning("api_stream_broken", error=in_words(error))
        raise BrokenStream from error
    yield await body.end()


class _Stream(StreamingResponse):
    """A stream that does not wait for ever."""

    def __init__(self, pieces: AsyncIterator[bytes], within: timedelta, **options: Any) -> None:
        super().__init__(pieces, **options)
        self._within_s = within.total_seconds()

    async def stream_response(self, send: Send) -> None:
        """Sends the answer, or its beginning."""
        try:
            async with asyncio.timeout(self._within_s):
                await self._send_patiently(send)
        except TimeoutError as error:
            log.warning("api_stream_too_long", after_s=self._within_s)
            raise BrokenStream from error

    async def _send_patiently(self, send: Send) -> None:
        async def patiently(message: Message) -> None:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await send(message)
            except TimeoutError as error:
                log.warning("api_stream_stalled", after_s=PATIENCE_S)
                raise BrokenStream from error

        await super().stream_response(patiently)
