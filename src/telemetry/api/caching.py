"""What a cache may keep: answers about windows that are over and whose ends do not move with the clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from hashlib import blake2b
from typing import Any

from fastapi import Request, Response
from pydantic_core import to_json

from telemetry.query.question import Asked, Question

KEPT_S = 3600
"""Seconds for which an answer may be used again that late readings cannot change any more."""
_MOVING = ("as_of", "closed_until", "source", "plan", "rows_read")
"""What tells how an answer was found, and may differ while the answer is the same."""


def is_fixed(asked: Asked, question: Question) -> bool:
    """Whether the range is over, and the same in an hour."""
    relative = any(text == "now" or text.startswith("-") for text in (asked.start, asked.end))
    return not relative and question.end <= question.now


def cache_control(question: Question, fixed: bool, max_lateness: timedelta) -> str:
    """`Cache-Control`: to be asked again, as a rule; kept for an hour when late readings would be refused."""
    if fixed and question.end <= question.now - max_lateness - timedelta(hours=1):
        return f"max-age={KEPT_S}"
    return "no-cache"


def tag(meta: Mapping[str, Any], pieces: Sequence[bytes]) -> str:
    """A weak `ETag` of an answer's meaning."""
    digest = blake2b(to_json({name: value for name, value in meta.items() if name not in _MOVING}), digest_size=12)
    for piece in pieces:
        digest.update(piece)
    return f'W/"{digest.hexdigest()}"'


def unchanged(request: Request, etag: str, headers: Mapping[str, str]) -> Response | None:
    """304, if the asker has that answer already."""
    known = [each.strip() for each in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers={**headers, "ETag": etag})
    return None
