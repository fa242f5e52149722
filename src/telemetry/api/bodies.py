"""Bodies straight from the database's rows, without a model per row in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fastapi.responses import Response
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from telemetry.query.turns import portions

ROWS = 500
"""Rows of a page that are made at a time."""
SMALL = 2**20
"""Bytes of a body up to which it is joined and sent at once."""
MEDIA_TYPE = "application/json"


def json_response(data: Any, meta: Mapping[str, Any] | None = None, status: int = 200) -> Response:
    """`{"meta": …, "data": …}`, the form of every answer that has several things to tell."""
    body = {"data": data} if meta is None else {"meta": meta, "data": data}
    return Response(to_json(body), status, media_type=MEDIA_TYPE)


async def json_page(rows: Iterable[Any], row: Callable[[Any], Any], meta: Mapping[str, Any]) -> Response:
    """The same of many rows, each made by a function; others have their turn in between."""
    pieces = [to_json([row(each) for each in some])[1:-1] async for some in portions(rows, ROWS)]
    return joined(meta, pieces)


def joined(meta: Mapping[str, Any], rows: Iterable[bytes]) -> Response:
    """The same from rows that are JSON already: each a row, or several with commas in between."""
    pieces, separator = [b'{"meta":' + to_json(meta) + b',"data":['], b""
    for row in rows:
        pieces.append(separator + row)
        separator = b","
    return PiecesResponse([*pieces, b"]}"], media_type=MEDIA_TYPE)


class PiecesResponse(Response):
    """A body that is there in pieces, sent with its length.

    To join them, and to hand over all at once, would take a tenth of a second of a page of a hundred thousand rows.
    """

    def __init__(self, pieces: Sequence[bytes], headers: Mapping[str, str] | None = None, **options: Any) -> None:
        self._pieces = pieces
        length = str(sum(map(len, pieces)))
        super().__init__(headers={**(headers or {}), "content-length": length}, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer."""
        if len(self._pieces) == 1 or sum(map(len, self._pieces)) < SMALL:
            self.body = b"".join(self._pieces)
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for (piece,) in portions(self._pieces, 1):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
