"""Bodies straight from the database's rows, without a model per row in between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi.responses import Response
from pydantic_core import to_json

MEDIA_TYPE = "application/json"


def json_response(data: Any, meta: Mapping[str, Any] | None = None, status: int = 200) -> Response:
    """`{"meta": …, "data": …}`, the form of every answer that has several things to tell."""
    body = {"data": data} if meta is None else {"meta": meta, "data": data}
    return Response(to_json(body), status, media_type=MEDIA_TYPE)


def joined(meta: Mapping[str, Any], rows: Iterable[bytes]) -> Response:
    """The same from rows that are JSON already: each a row, or several with commas in between."""
    # Of all pieces at once: each further copy of a large answer takes as long as to send it.
    pieces = [b'{"meta":', to_json(meta), b',"data":[']
    for row in rows:
        pieces += (row, b",")
    if pieces[-1] == b",":
        pieces.pop()
    return Response(b"".join([*pieces, b"]}"]), media_type=MEDIA_TYPE)
