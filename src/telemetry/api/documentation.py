"""What OpenAPI says beyond the signatures: answers as examples, problems, and questions that run as they stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from telemetry.api.problems import MEDIA_TYPE
from telemetry.api.schemas import Overrides, schema_of

QUESTIONS = "x-questions"
"""Extension of an operation: requests that `/docs` offers to run, each with a sentence on what it asks."""

PROBLEM = {
    "description": "A problem (RFC 9457) that names the parameter, what was given and what is allowed.",
    "content": {
        MEDIA_TYPE: {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "detail", "instance"],
                "properties": {
                    "type": {"type": "string", "description": "A stable key: `urn:telemetry:problem:…`"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string", "description": "One sentence for people."},
                    "instance": {"type": "string"},
                    "parameter": {"type": "string"},
                    "given": {},
                    "allowed": {"type": "array", "items": {"type": "string"}},
                    "estimate": {"type": "integer", "description": "Of what is bounded, as much as it would take."},
                    "limit": {"type": "integer", "description": "Of what is bounded, as much as there may be."},
                },
            },
            "example": {
                "type": "urn:telemetry:problem:invalid-parameter",
                "title": "Unprocessable Entity",
                "status": 422,
                "detail": "metric: lighting has no such metric",
                "instance": "/v1/lighting/series",
                "parameter": "metric",
                "given": "power",
                "allowed": ["power_w", "voltage_v", "…"],
            },
        }
    },
}
NOT_MODIFIED = {"description": "The answer whose `ETag` was sent as `If-None-Match` is still right."}


def documented(
    answer: dict[str, Any] | str | None,
    *,
    questions: Mapping[str, str] | None = None,
    problems: tuple[int, ...] = (422, 503),
    status: int = 200,
    also: tuple[int, ...] = (),
    forms: Iterable[str] = (),
    overrides: Overrides | None = None,
    unchanged: bool = False,
) -> dict[str, Any]:
    """Arguments for a route's decorator.

    Args:
        answer: an example of the answer; text for one that is no JSON, None for an empty one.
        questions: sentence to request (`/v1/…`), each of which the demo can answer.
        problems: the statuses under which a problem is answered.
        also: further statuses that answer the same.
        forms: media types of further forms of the answer.
        overrides: schemas of the answer's fields that the example does not show all of, by name.
        unchanged: whether it may be answered that the asker has the answer already.
    """
    media_type = "application/json" if isinstance(answer, dict) else "text/plain"
    content: dict[str, Any] = {}
    if answer is not None:
        content = {"content": {media_type: {"schema": schema_of(answer, overrides or {}), "example": answer}}}
    for each in forms:
        text: dict[str, Any] = {"type": "string"}
        is_text = each.startswith("text/") or each.endswith("ndjson")
        content.setdefault("content", {})[each] = {
            "schema": text if is_text else text | {"format": "binary"},
            "example": "One row per line." if is_text else "A table in binary.",
        }
    return {
        "responses": {each: {"description": "The answer.", **content} for each in (status, *also)}
        | ({304: NOT_MODIFIED} if unchanged else {})
        | dict.fromkeys(problems, PROBLEM),
        "openapi_extra": {
            QUESTIONS: [{"sentence": sentence, "request": request} for sentence, request in (questions or {}).items()]
        },
    }
