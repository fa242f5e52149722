"""Pages: how many rows one may have, and the cursor that continues behind the last row."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any

from fastapi import Query

from telemetry.api.service import Service
from telemetry.errors import InvalidQuery

Cursor = Annotated[str | None, Query(description="`meta.next` of the page before; the other parameters stay the same.")]
_LARGEST = 2**53
"""Of a number in a cursor: microseconds since 1970 stay below it for 280 years."""

Limit = Annotated[int, Query(description="Rows of a page; `api.max_page` is the most.")]


def page_size(service: Service, limit: int) -> int:
    """The limit.

    Raises:
        InvalidQuery: it is less than 1 or more than the settings allow.
    """
    most = service.settings.api.max_page
    if not 1 <= limit <= most:
        raise InvalidQuery("limit", limit, f"must be between 1 and {most}", (f"1 to {most}",))
    return limit


def encode(place: list[Any]) -> str:
    """A cursor: the values of the last row that order the rows."""
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode().rstrip("=")


def decode(cursor: str | None, *types: type) -> list[Any] | None:
    """The values in a cursor; None where there is no cursor.

    Raises:
        InvalidQuery: it is none of ours, or one of another route.
    """
    if cursor is None:
        return None
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        place = None
    if not isinstance(place, list) or [type(value) for value in place] != list(types) or not all(map(_fits, place)):
        raise foreign(cursor)
    return place


def foreign(cursor: str | None) -> InvalidQuery:
    """The error about a cursor that is none of the route's."""
    return InvalidQuery("cursor", cursor, "is no cursor of this route", ("meta.next of the page before",))


def _fits(value: Any) -> bool:
    """Whether the database can compare with it; a cursor that somebody made up may hold anything."""
    return abs(value) <= _LARGEST if isinstance(value, int) else "\0" not in value and value.isprintable()
