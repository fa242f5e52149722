"""What is sent and what comes back, without a socket and without a clock.

A question is a flow: a generator that yields what is to be sent and gets the answer. The two shells (`blocking`,
`awaiting`) only carry that out, so whatever is to be decided is decided here and in the questions, once for both:

    question ──flow──▶ patient ──Send, Wait──▶ shell ──▶ network
             ◀─Answer─         ◀────Answer────       ◀──
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from telemetry.client.errors import InvalidArgument, refusal, seconds_to_wait

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Parameters = tuple[tuple[str, str], ...]


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
    """How often a question is asked again that was refused for the moment: GET, status 429 or 503, `Retry-After`.

    Each pause is `Retry-After`, doubled with every try; the refusal is raised at once where that is too long.

    Attributes:
        attempts: requests at the most, the first one included.
        longest_s: the longest pause, in seconds.
    """

    attempts: int = 4
    longest_s: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise InvalidArgument(f"attempts: {self.attempts} is less than 1; 1 never asks again")

    def pause(self, request: Request, answer: Answer, attempt: int) -> float | None:
        """Seconds before the next attempt; None if that was the last."""
        after = seconds_to_wait(answer.headers)
        if answer.status not in (429, 503) or after is None or request.method != "GET" or not request.is_repeatable:
            return None
        pause = after * 2**attempt
        return pause if attempt + 1 < self.attempts and pause <= self.longest_s else None


@dataclass(frozen=True)
class Question(Generic[T_co]):
    """Something to be asked, once or again: `Client.ask`.

    Attributes:
        flow: begins to ask.
    """

    flow: Callable[[], Flow[T_co]] = field(repr=False)


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


def begun(question: Question[T]) -> Flow[T]:
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


def patient(flow: Flow[T], retry: Retry) -> Steps[T]:
    """The flow, with each request sent again as long as `retry` allows."""
    with closing(flow):
        try:
            step = next(flow)
            while True:
                step = flow.send((yield from _settled(step, retry)))
        except StopIteration as end:
            result: T = end.value
            return result


def _settled(step: Send, retry: Retry) -> Steps[Answer]:
    attempt = 0
    while True:
        answer = yield step
        assert answer is not None
        pause = retry.pause(step.request, answer, attempt)
        if pause is None:
            return answer
        yield Wait(pause)
        attempt += 1
