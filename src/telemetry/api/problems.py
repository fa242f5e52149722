"""Errors as `application/problem+json` (RFC 9457): what was wrong, what was given, what is allowed.

Every error of every route is made here, whoever raised it. Members beyond the standard's own: `parameter`, `given` and
`allowed` where a parameter is at fault.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import asyncpg
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from telemetry.errors import ConfigurationError, InvalidQuery, NotKept, TelemetryError, TooLarge, Unavailable
from telemetry.query.instants import format_utc
from telemetry.store.failures import Failure, classify, in_words

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
UNKNOWN_MEMBER = "unknown_member"
"""Of a body: the fault's context has `member` and `allowed`."""
_BEGINNING = 200
"""Characters of a given value that an answer repeats at the most."""


class Problem(TelemetryError):
    """An answer other than the one that was hoped for.

    Args:
        kind: last part of the problem's `type`, a stable key for programs.
        more: further members.
    """

    def __init__(self, status: HTTPStatus, kind: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.more = more

    def response(self, request: Request, headers: Mapping[str, str] | None = None) -> Response:
        """The problem as an answer to that request."""
        body = {
            "type": f"urn:telemetry:problem:{self.kind}",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            "instance": request.url.path,
            **self.more,
        }
        # Escaped: what was given may hold half a character, which UTF-8 cannot.
        return Response(json.dumps(body, allow_nan=False), self.status, headers=headers, media_type=MEDIA_TYPE)


class BrokenStream(Exception):
    """An answer whose beginning is sent cannot become a problem; raised, it closes the connection before the end."""


def not_found(what: str, given: str, allowed: Sequence[str] = ()) -> Problem:
    """There is no such thing; `allowed` names those that there are."""
    detail = f"there is no {what} {given!r}" + (f"; there are {', '.join(allowed)}" if allowed else "")
    return Problem(
        HTTPStatus.NOT_FOUND, "not-found", detail, parameter=what, given=_abridged(given), allowed=list(allowed)
    )


def install(app: FastAPI) -> None:
    """Makes every error of the app a problem."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(InvalidQuery, _invalid_query)
    app.add_exception_handler(TooLarge, _too_large)
    app.add_exception_handler(NotKept, _not_kept)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http)
    for passing in (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, Unavailable):
        app.add_exception_handler(passing, _database)
    app.add_exception_handler(ConfigurationError, _database)
    app.add_exception_handler(Exception, _unexpected)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    is_passing = error.status is HTTPStatus.SERVICE_UNAVAILABLE
    return error.response(request, {"Retry-After": str(RETRY_AFTER_S)} if is_passing else None)


async def _invalid_query(request: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidQuery)
    return invalid_parameter(error.parameter, error.given, error.detail, error.allowed).response(request)


async def _too_large(request: Request, error: Exception) -> Response:
    assert isinstance(error, TooLarge)
    figures = {"parameter": error.parameter, "estimate": error.estimate, "limit": error.limit}
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too-large", error.detail, **figures).response(request)


async def _not_kept(request: Request, error: Exception) -> Response:
    assert isinstance(error, NotKept)
    problem = invalid_parameter(error.parameter, error.given, error.detail, error.allowed)
    problem.kind, problem.more["kept_from"] = "not-kept", format_utc(error.kept_from)
    return problem.response(request)


def invalid_parameter(parameter: str, given: object, detail: str, allowed: Sequence[str] = ()) -> Problem:
    """A parameter that cannot be answered."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid-parameter",
        f"{parameter}: {detail}",
        parameter=parameter,
        given=_abridged(given),
        allowed=list(allowed),
    )


async def _invalid_request(request: Request, error: Exception) -> Response:
    """What FastAPI found wrong; the first fault is told."""
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    place, *names = [str(part) for part in fault["loc"]]
    name = ".".join(names) or place
    if fault["type"] == "json_invalid":
        name, given = "body", None
    else:
        given = fault.get("input")
    if fault["type"] == UNKNOWN_MEMBER:
        name, given = fault["ctx"]["member"], fault["input"][fault["ctx"]["member"]]
    return invalid_parameter(name, given, fault["msg"], _allowed(fault)).response(request)


_KINDS = {
    "bool_parsing": ["true", "false"],
    "int_parsing": ["a whole number"],
    "int_parsing_size": ["a whole number"],
    "int_type": ["a whole number"],
    "int_from_float": ["a whole number"],
    "float_parsing": ["a number"],
    "float_type": ["a number"],
    "finite_number": ["a finite number"],
    "string_type": ["text"],
    "model_attributes_type": ["a JSON object"],
}


def _allowed(fault: Mapping[str, Any]) -> list[str]:
    """What the kind of a fault, or its constraint, says is allowed."""
    if fault["type"] in _KINDS:
        return _KINDS[fault["type"]]
    context = fault.get("ctx", {})
    signs = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than", "pattern": "text like"}
    if "allowed" in context:
        return list(context["allowed"])
    found = [f"{words} {context[name]}" for name, words in signs.items() if name in context]
    return [*found, f"at most {context['max_length']} characters"] if "max_length" in context else found


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    detail = {
        HTTPStatus.NOT_FOUND: f"there is no route {request.url.path}; /docs lists them",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not possible here",
    }.get(status, str(error.detail))
    return Problem(status, status.phrase.lower().replace(" ", "-"), detail).response(request, error.headers)


async def _database(request: Request, error: Exception) -> Response:
    if isinstance(error, asyncpg.QueryCanceledError):
        timeout = request.app.state.service.settings.api.statement_timeout.total_seconds()
        return unavailable(
            "too-slow",
            f"the question took longer than {timeout:g} s (api.statement_timeout) and was ended; ask for a shorter "
            "range, fewer devices, or a window of whole hours or days, which roll-ups answer",
        ).response(request)
    if isinstance(error, asyncpg.ProgramLimitExceededError):
        log.warning("api_too_complex", path=request.url.path, error=str(error))
        detail = (
            f"the question is beyond what the database can do at once ({error}); ask for fewer metrics or aggregates"
        )
        return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too-large", detail).response(request)
    if isinstance(error, (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError)):
        return unavailable("not-migrated", "the database has no such tables yet; run `telemetry db migrate`").response(
            request, {"Retry-After": str(RETRY_AFTER_S)}
        )
    # What asyncpg cannot encode is an InterfaceError, too, and would come again for ever.
    if isinstance(error, ValueError) or (
        isinstance(error, asyncpg.PostgresError) and classify(error) is not Failure.RETRY and not _refused(error)
    ):
        return await _unexpected(request, error)
    log.warning("api_database_away", path=request.url.path, error=in_words(error))
    return unavailable(
        "database-away", "the database cannot be reached now; the same request may succeed later"
    ).response(request, {"Retry-After": str(RETRY_AFTER_S)})


def _refused(error: asyncpg.PostgresError) -> bool:
    return isinstance(error, (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError))


def unavailable(kind: str, detail: str) -> Problem:
    """503: not the asker's fault, or not one that can be seen beforehand."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, kind, detail)


async def _unexpected(request: Request, error: Exception) -> Response:
    if not isinstance(error, BrokenStream):
        log.error("api_error", path=request.url.path, error=in_words(error), exc_info=error)
    detail = "the service made a mistake; its log tells more"
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail).response(request)


def _abridged(given: object) -> object:
    if isinstance(given, str) and len(given) > _BEGINNING:
        return given[:_BEGINNING] + "…"
    if isinstance(given, (str, int, type(None))) or (isinstance(given, float) and math.isfinite(given)):
        return given
    return (given.decode(errors="replace") if isinstance(given, bytes) else str(given))[:_BEGINNING]
