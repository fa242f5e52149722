"""httpx below both shells: what a connection is made of, a request as its arguments, and its errors as ours."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ssl import SSLContext
from typing import Any, TypeVar

from telemetry import __version__
from telemetry.client.errors import AnswerTimeout, InvalidArgument, MissingLibrary, NoAnswer
from telemetry.client.exchange import Answer, Request, Retry

try:
    import httpx as httpx
except ModuleNotFoundError as error:
    raise MissingLibrary("httpx", "client") from error

DEFAULT_TIMEOUT_S = 60.0
"""More than a question may take by default (`api.statement_timeout`)."""
_LONGEST_TIMEOUT_S = 1e9
"""More than any clock of a socket takes is an error there."""
CHUNK = 1 << 16
"""Bytes that are handed to a sink at a time."""
NEVER = Retry(within_s=0)
CONCURRENCY = 6
"""As many questions as the service answers to one address at a time by default (`api.max_concurrent_per_client`)."""

Method = TypeVar("Method", bound=Callable[..., Any])


def options(
    url: str, timeout: float | None, headers: Mapping[str, str] | None, verify: SSLContext | bool
) -> dict[str, Any]:
    """Arguments of `httpx.Client` and `httpx.AsyncClient`.

    Raises:
        InvalidArgument: the address is none of HTTP, or one of the others cannot be.
    """
    if timeout is not None and not 0 < timeout <= _LONGEST_TIMEOUT_S:
        raise InvalidArgument(f"timeout: {timeout!r} is not allowed; allowed: seconds, more than 0; None for no end")
    return {"base_url": _address(url), "timeout": timeout, "headers": _headers(headers or {}), "verify": verify}


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        address = httpx.URL()
    if address.scheme not in ("http", "https") or not address.host:
        raise InvalidArgument(f"url: {url!r} is no address of a service; allowed: http://host:port, https://host/path")
    return address


def _headers(given: Mapping[str, str]) -> httpx.Headers:
    own = {"user-agent": f"urban-telemetry/{__version__}"}
    try:
        return httpx.Headers({**own, **given})
    except (UnicodeEncodeError, TypeError) as error:
        raise InvalidArgument(f"headers: {error}; allowed: text of ASCII characters") from error


def checked_concurrency(concurrency: int) -> int:
    """Questions that may be under way at a time.

    Raises:
        InvalidArgument: none could be.
    """
    if not isinstance(concurrency, int) or concurrency < 1:
        raise InvalidArgument(f"concurrency: {concurrency!r} is not allowed; allowed: 1 or more")
    return concurrency


def stream_arguments(request: Request) -> dict[str, Any]:
    """Arguments of `stream`."""
    body = {} if request.body is None else {"json": request.body}
    return {"method": request.method, "url": request.path, "params": request.params, **body}


def to_answer(response: httpx.Response, content: bytes) -> Answer:
    """What came."""
    return Answer(response.status_code, response.headers, content)


@contextmanager
def translating_errors(request: Request) -> Iterator[None]:
    """Errors of httpx as ours."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise AnswerTimeout(f"{request.path}: nothing came in time ({_message(error)}); see `timeout`") from error
    except httpx.RequestError as error:
        raise NoAnswer(f"{request.path}: {_message(error)}") from error
    except httpx.InvalidURL as error:
        raise InvalidArgument(f"{request.path}: {error}") from error


def named_after(question: Callable[..., Any], method: Method) -> Method:
    """A method with the name, the documentation and the signature of the question that it asks."""
    method.__name__, method.__doc__ = question.__name__, question.__doc__
    method.__qualname__ = f"{method.__qualname__.partition('.')[0]}.{question.__name__}"
    signature = inspect.signature(question)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    changed = signature.replace(
        parameters=[own, *signature.parameters.values()], return_annotation=inspect.Signature.empty
    )
    method.__signature__ = changed  # type: ignore[attr-defined]
    return method


def _message(error: Exception) -> str:
    return str(error) or type(error).__name__
