"""What is sent and what comes back, without a socket, and with a clock that tests give.

A question is a flow: a generator that yields what is to be sent and gets the answer. The two shells (`blocking`,
`asynchronous`) only carry that out, so whatever is to be decided is decided here and in the questions, once for both:

    question ──flow──▶ with_retries ──Send, Wait──▶ shell ──▶ network
             ◀─Answer─              ◀────Answer────       ◀──
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from telemetry.client.errors import InvalidArgument, refusal, seconds_to_wait

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Parameters = tuple[tuple[str, str], ...]
Clock: TypeAlias = Callable[[], float]

_SHORTEST_S = 0.1
"""Pause where a proxy says `Retry-After: 0`."""


class Sink(Protocol):
    """Where the body of an answer goes instead of into memory."""

    def write(self, data: bytes, /) -> int:
        """Takes the next bytes."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        path: below the address of the service, quoted.
        body: sent as JSON.
        is_repeatable: may be sent again when it was refused for the moment.
    """

    path: str
    params: Parameters = ()
    method: str = "GET"
    body: Mapping[str, Any] | None = None
    is_repeatable: bool = True

    def having(self, **params: str) -> Request:
        """The same with these parameters instead of those of the same names."""
        others = tuple(each for each in self.params if each[0] not in params)
        return replace(self, params=(*others, *params.items()))


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        headers: found by names in small letters.
        content: empty where it went into a sink.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def is_success(self) -> bool:
        """Whether it is what was asked for."""
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Send:
    """To be done: send, and give back the answer; the body of a success goes into the sink if there is one."""

    request: Request
    sink: Sink | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """To be done: nothing, for so long."""

    seconds: float


Flow: TypeAlias = Generator[Send, Answer, T]
Steps: TypeAlias = Generator[Send | Wait, Answer | None, T]


@dataclass(frozen=True, slots=True)
class Retry:
    """How long a question is asked again that was refused for the moment: GET, status 429 or 503, `Retry-After`.

    Each pause is what `Retry-After` says; the refusal is raised at once where that ends too late.

    Attributes:
        within_s: seconds after the first refusal in which the question is asked again; `math.inf` has no end.
    """

    within_s: float = 60.0

    def __post_init__(self) -> None:
        if not self.within_s >= 0:
            raise InvalidArgument(
                f"within_s: {self.within_s} is not allowed; allowed: 0, which never asks again, or more"
            )

    def pause(self, request: Request, answer: Answer, refused_for_s: float) -> float | None:
        """Seconds before it is asked again; None where it is not."""
        after = seconds_to_wait(answer.headers)
        if answer.status not in (429, 503) or after is None or request.method != "GET" or not request.is_repeatable:
            return None
        pause = max(after, _SHORTEST_S)
        return pause if refused_for_s + pause <= self.within_s else None


@dataclass(frozen=True)
class Question(Generic[T_co]):
    """Something to be asked, once or again: `Client.ask`.

    Attributes:
        flow: begins to ask.
        is_bounded: counts among those of which a service answers so many at a time.
    """

    flow: Callable[[], Flow[T_co]] = field(repr=False)
    is_bounded: bool = field(default=True, kw_only=True)


def fetch(request: Request, sink: Sink | None = None) -> Flow[Answer]:
    """The answer.

    Raises:
        Problem: the service refused.
        UnexpectedAnswer: what came is no answer of the service.
    """
    answer = yield Send(request, sink)
    if not answer.is_success:
        raise refusal(answer.status, answer.headers, answer.content)
    return answer


def one(request: Request, read: Callable[[Answer], T]) -> Question[T]:
    """A question of a single request."""

    def flow() -> Flow[T]:
        return read((yield from fetch(request)))

    return Question(flow)


def flow_of(question: Question[T]) -> Flow[T]:
    """The flow of a question.

    Raises:
        InvalidArgument: it is an answer, or comes in pages.
    """
    if not isinstance(question, Question):
        raise InvalidArgument(
            f"question: a {type(question).__name__} cannot be asked at once; "
            "allowed: series(…) of telemetry.client; what comes in pages is a method: client.readings(…)"
        )
    return question.flow()


def with_retries(flow: Flow[T], retry: Retry, clock: Clock = time.monotonic) -> Steps[T]:
    """The flow, with each request sent again as long as `retry` allows."""
    with closing(flow):
        try:
            step = next(flow)
            while True:
                step = flow.send((yield from _send_until_settled(step, retry, clock)))
        except StopIteration as end:
            result: T = end.value
            return result


def _send_until_settled(step: Send, retry: Retry, clock: Clock) -> Steps[Answer]:
    refused_at: float | None = None
    while True:
        answer = yield step
        assert answer is not None
        now = clock()
        refused_at = now if refused_at is None else refused_at
        pause = retry.pause(step.request, answer, now - refused_at)
        if pause is None:
            return answer
        yield Wait(pause)
