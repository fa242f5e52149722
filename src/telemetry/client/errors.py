"""What can go wrong for whoever asks.

ClientError
├── InvalidArgument       the question cannot be sent: a time without a zone, an empty filter
├── MissingLibrary        polars, pandas or httpx is not installed; names the extra that brings it
├── NoAnswer              the service could not be reached, or the answer broke off
│   └── AnswerTimeout     … because it took too long
├── UnexpectedAnswer      the answer is not one of this service, or of another version of it
└── Problem               the service said no (`application/problem+json`)
    ├── InvalidParameter  422: with `parameter`, `given` and `allowed`
    │   └── TooLarge      … the question would take too much: with `estimate` and `limit`, where they can be told
    ├── NotFound          404
    ├── Conflict          409
    ├── TooManyQuestions  429: with `retry_after`
    ├── ServiceUnavailable 503: with `retry_after` where the same question may succeed later
    └── ServiceFault      500
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from telemetry.errors import TelemetryError

MEDIA_TYPE = "application/problem+json"
_SHOWN = 12
"""Allowed values that a sentence lists."""


class ClientError(TelemetryError):
    """Root of what the client raises."""


class InvalidArgument(ClientError, ValueError):
    """What was passed cannot be sent; the sentence names the parameter and what is allowed."""


class MissingLibrary(ClientError, ImportError):
    """A library is not installed.

    Args:
        name: of the library.
        extra: of this package, which brings it.
    """

    def __init__(self, name: str, extra: str | None) -> None:
        package = f"urban-telemetry[{extra}]" if extra else "urban-telemetry"
        super().__init__(f"{name} is not installed; it comes with: pip install '{package}'", name=name)
        self.extra = extra


class NoAnswer(ClientError):
    """The service could not be reached, or its answer broke off. Nothing of such an answer may be used."""


class AnswerTimeout(NoAnswer):
    """Nothing came for longer than `timeout`."""


class UnexpectedAnswer(ClientError):
    """The answer is none of this service (a proxy's page, for instance), or of a version that this client does not
    understand.
    """


class Problem(ClientError):
    """The service could not answer as asked.

    Attributes:
        kind: last part of the problem's `type`, stable: `invalid-parameter`, `too-slow`, …
        status: of HTTP.
        detail: one sentence.
        parameter, given, allowed: what was at fault, what it was, and what would be accepted.
        estimate, limit: what the question would take, and what it may take.
        retry_after: seconds after which the same question may succeed.
    """

    def __init__(self, status: int, members: Mapping[str, Any], retry_after: float | None = None) -> None:
        self.kind: str = str(members.get("type", "about:blank")).rpartition(":")[2]
        self.status = status
        self.detail: str = str(members.get("detail") or members.get("title") or "")
        self.parameter: str | None = members.get("parameter")
        self.given: Any = members.get("given")
        self.allowed: tuple[str, ...] = tuple(members.get("allowed") or ())
        self.estimate: int | None = members.get("estimate")
        self.limit: int | None = members.get("limit")
        self.retry_after = retry_after
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        parts = [f"{self.status} {self.kind}: {self.detail}"]
        if self.given is not None:
            parts.append(f"given: {self.given!r}")
        if self.allowed:
            more = ", …" if len(self.allowed) > _SHOWN else ""
            parts.append(f"allowed: {', '.join(self.allowed[:_SHOWN])}{more}")
        if self.estimate is not None:
            parts.append(f"estimate: {_figure(self.estimate)}, limit: {_figure(self.limit)}")
        if self.retry_after is not None:
            parts.append(f"ask again in {self.retry_after:g} s")
        return "; ".join(parts)


class InvalidParameter(Problem):
    """A parameter that cannot be answered."""


class TooLarge(InvalidParameter):
    """The question would take more than is allowed; ask for less at a time."""


class NotFound(Problem):
    """There is no such thing."""


class Conflict(Problem):
    """What is there does not allow it."""


class TooManyQuestions(Problem):
    """Too many questions of this address are running."""


class ServiceUnavailable(Problem):
    """The database is away or not migrated, or the question took too long."""


class ServiceFault(Problem):
    """The service made a mistake; its log tells more."""


_BY_STATUS: Mapping[int, type[Problem]] = {
    404: NotFound,
    409: Conflict,
    422: InvalidParameter,
    429: TooManyQuestions,
    500: ServiceFault,
    503: ServiceUnavailable,
}


def refusal(status: int, headers: Mapping[str, str], content: bytes) -> ClientError:
    """The error that an answer other than 2xx stands for."""
    try:
        members = json.loads(content) if headers.get("content-type", "").startswith(MEDIA_TYPE) else None
    except ValueError:
        members = None
    if not isinstance(members, dict):
        text = content[:200].decode(errors="replace")
        return UnexpectedAnswer(f"status {status} with no problem of this service; is the address right? {text}")
    kind = TooLarge if str(members.get("type")).endswith(":too-large") else _BY_STATUS.get(status, Problem)
    return kind(status, members, seconds_to_wait(headers))


def _figure(number: object) -> str:
    return f"{number:,}" if isinstance(number, (int, float)) else str(number)


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds; the other form of the header, a date, is not used by the service."""
    text = headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdecimal() else None
