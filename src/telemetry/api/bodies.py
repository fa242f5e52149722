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
    """The same from rows that are JSON already."""
    return Response(b'{"meta":' + to_json(meta) + b',"data":[' + b",".join(rows) + b"]}", media_type=MEDIA_TYPE)
