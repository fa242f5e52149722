"""What a cache may keep: answers about windows that are over and whose ends do not move with the clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from hashlib import blake2b
from typing import Any

from fastapi import Request, Response
from pydantic_core import to_json

from telemetry.query.aggregates import Family
from telemetry.query.question import Asked, By, Question
from telemetry.query.scope import Scope
from telemetry.query.turns import portions

KEPT_S = 3600
"""Seconds for which an answer may be used again that late readings cannot change any more."""
_MOVING = ("as_of", "closed_until", "source", "plan", "rows_read")
"""What tells how an answer was found, and may differ while the answer is the same."""


def is_fixed(asked: Asked, question: Question) -> bool:
    """Whether the range is over, and the same in an hour."""
    relative = any(text == "now" or text.startswith("-") for text in (asked.start, asked.end))
    return not relative and question.end <= question.now


def cache_control(question: Question, scope: Scope, fixed: bool, max_lateness: timedelta) -> str:
    """`Cache-Control`: to be asked again, as a rule; kept for an hour where nothing is expected to change it.

    Late readings would be refused by then, upkeep has been there, and none that a spool held back has come since.
    """
    is_over = question.end <= question.now - max_lateness - timedelta(hours=1)
    is_closed = scope.closed_until is not None and question.end <= scope.closed_until and not scope.late
    if fixed and is_over and is_closed and _is_of_readings_alone(question):
        return f"max-age={KEPT_S}"
    return "no-cache"


def _is_of_readings_alone(question: Question) -> bool:
    """Whether the answer is made of the readings in its range and of nothing else.

    Zones and intervals are those of the registry today, meters may be declared to be swapped long ago, and a value that
    lasts or is carried may end with a reading after the range.
    """
    is_of_registry = bool(question.by is not By.NONE or question.zones or question.coverage)
    looks_around = bool(question.chosen(Family.CHANGE, Family.TIME) or question.max_gap)
    return not is_of_registry and not looks_around


async def tag(meta: Mapping[str, Any], pieces: Iterable[bytes]) -> str:
    """A weak `ETag` of an answer's meaning."""
    digest = blake2b(to_json({name: value for name, value in meta.items() if name not in _MOVING}), digest_size=12)
    async for (piece,) in portions(pieces, 1):
        digest.update(piece)
    return f'W/"{digest.hexdigest()}"'


def unchanged(request: Request, etag: str, headers: Mapping[str, str]) -> Response | None:
    """304, if the asker has that answer already."""
    known = [each.strip() for each in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers={**headers, "ETag": etag})
    return None
