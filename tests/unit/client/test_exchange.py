"""What the client decides, without a socket and without a clock: flows are given answers, and tell what to do next."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import repeat
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from telemetry.client import (
    ClientError,
    InvalidArgument,
    InvalidParameter,
    NotFound,
    Problem,
    Question,
    Retry,
    ServiceFault,
    ServiceUnavailable,
    TooLarge,
    TooManyQuestions,
    UnexpectedAnswer,
    questions,
    readings,
    series,
)
from telemetry.client.errors import refusal
from telemetry.client.exchange import Answer, Request, Send, Wait, flow_of, with_retries
from telemetry.client.parameters import parameters
from telemetry.errors import TelemetryError

VERSION = Answer(200, {}, b'{"data": {"name": "urban-telemetry", "version": "9", "more": 1}, "meta": {}}')


def problem(status: int, kind: str, retry_after: str | None = None, **more: Any) -> Answer:
    members = {"type": f"urn:telemetry:problem:{kind}", "status": status, "detail": "no", **more}
    headers = {"content-type": "application/problem+json"}
    if retry_after is not None:
        headers["retry-after"] = retry_after
    return Answer(status, headers, json.dumps(members).encode())


def told(
    question: Question[Any], answers: Iterable[Answer], retry: Retry, takes_s: float = 0.0
) -> tuple[Any, list[float], list[Request]]:
    """How a question ends that gets these answers, each after so many seconds: the result or the error, the pauses, and
    what was sent.
    """
    now, pauses, sent = 0.0, [], []
    steps = with_retries(question.flow(), retry, lambda: now)
    left = iter(answers)
    answer = None
    try:
        while True:
            step = steps.send(answer)
            if isinstance(step, Wait):
                pauses.append(step.seconds)
                now += step.seconds
                answer = None
            else:
                sent.append(step.request)
                now += takes_s
                answer = next(left)
    except StopIteration as end:
        return end.value, pauses, sent
    except ClientError as error:
        return error, pauses, sent


def test_question_refused_for_the_moment_is_asked_again_when_the_service_says() -> None:
    busy = problem(429, "too-many-questions", "2")
    found, pauses, sent = told(questions.version(), [busy, problem(503, "database-away", "3"), VERSION], Retry())
    assert (found.version, pauses, len(sent)) == ("9", [2, 3], 3)
    found, pauses, sent = told(questions.version(), [busy] * 25 + [VERSION], Retry())
    assert (found.version, pauses, len(sent)) == ("9", [2] * 25, 26)
    found, pauses, _ = told(questions.version(), [problem(429, "too-many-questions", "0"), VERSION], Retry())
    assert (found.version, pauses) == ("9", [0.1])
    found, pauses, _ = told(questions.version(), [busy] * 10_000 + [VERSION], Retry(within_s=math.inf))
    assert (found.version, len(pauses)) == ("9", 10_000)


def test_question_is_asked_again_until_some_time_after_the_first_refusal() -> None:
    busy = repeat(problem(429, "too-many-questions", "2"))
    found, pauses, sent = told(questions.version(), busy, Retry())
    assert (type(found), found.retry_after, pauses, len(sent)) == (TooManyQuestions, 2.0, [2] * 30, 31)
    # The 2 s after which a service refuses count as well, but for the first ones.
    found, pauses, _ = told(questions.version(), busy, Retry(within_s=60), takes_s=2)
    assert (type(found), pauses) == (TooManyQuestions, [2] * 15)
    found, pauses, _ = told(questions.version(), busy, Retry(within_s=1.9))
    assert (type(found), pauses) == (TooManyQuestions, [])


@pytest.mark.parametrize(
    ("question", "answer", "retry"),
    [
        (questions.version(), problem(429, "too-many-questions", "2"), Retry(within_s=0)),
        (questions.version(), problem(429, "too-many-questions", "0"), Retry(within_s=0)),
        (questions.version(), problem(429, "too-many-questions", "61"), Retry()),
        (questions.version(), problem(503, "too-slow"), Retry()),
        (questions.version(), problem(503, "database-away", "tomorrow"), Retry()),
        (questions.version(), problem(500, "internal-error", "1"), Retry()),
        (questions.put_device("lamp-1", "lighting"), problem(503, "database-away", "1"), Retry()),
        (questions.delete_device("lamp-1"), problem(429, "too-many-questions", "1"), Retry()),
    ],
)
def test_question_is_not_asked_again_where_that_is_not_meant(
    question: Question[Any], answer: Answer, retry: Retry
) -> None:
    found, pauses, sent = told(question, [answer], retry)
    assert isinstance(found, Problem)
    assert (pauses, len(sent)) == ([], 1)


def test_health_of_a_service_without_database_is_told_at_once() -> None:
    found, pauses, _ = told(questions.health(), [problem(503, "database-away", "5")], Retry())
    assert (found.is_ready, found.detail, pauses) == (False, "no", [])


@pytest.mark.parametrize("seconds", [-1, math.nan])
def test_retry_within_a_time_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidArgument, match=f"within_s: {seconds} is not allowed; allowed: 0"):
        Retry(within_s=seconds)


@pytest.mark.parametrize(
    ("answer", "kind", "sentence"),
    [
        (problem(404, "not-found", parameter="device"), NotFound, "404 not-found: no"),
        (problem(500, "internal-error"), ServiceFault, "500 internal-error: no"),
        (problem(503, "too-slow"), ServiceUnavailable, "503 too-slow: no"),
        (problem(406, "not-acceptable"), Problem, "406 not-acceptable: no"),
        (problem(429, "too-many-questions", "2"), TooManyQuestions, "429 .*; ask again in 2 s"),
        (
            problem(422, "invalid-parameter", given="x", allowed=[f"m{number}" for number in range(13)]),
            InvalidParameter,
            "422 .*; given: 'x'; allowed: m0, .*m11, …$",
        ),
        (Answer(502, {"content-type": "text/html"}, b"<h1>Bad gateway"), UnexpectedAnswer, "502 .*Bad gateway"),
        (Answer(307, {}, b""), UnexpectedAnswer, "307 .*is the address right"),
        (Answer(500, {"content-type": "application/problem+json"}, b"["), UnexpectedAnswer, "500"),
    ],
)
def test_answer_that_is_no_success_is_an_error_of_its_kind(
    answer: Answer, kind: type[ClientError], sentence: str
) -> None:
    error = refusal(answer.status, answer.headers, answer.content)
    assert type(error) is kind
    assert isinstance(error, TelemetryError)
    with pytest.raises(kind, match=sentence):
        raise error


@pytest.mark.parametrize("status", [422, 413, 503])
@pytest.mark.parametrize(
    ("figures", "sentence"),
    [
        ({"estimate": 9_000_000, "limit": 500_000}, "too-large: no; estimate: 9,000,000, limit: 500,000"),
        ({"estimate": 9_000_000}, "too-large: no; estimate: 9,000,000, limit: None"),
        ({"limit": 500_000}, "too-large: no$"),
        ({}, "too-large: no$"),
    ],
)
def test_question_that_is_too_large_tells_the_figures(status: int, figures: dict[str, Any], sentence: str) -> None:
    answer = problem(status, "too-large", parameter="window", **figures)
    with pytest.raises(TooLarge, match=sentence) as told:
        raise refusal(answer.status, answer.headers, answer.content)
    assert (told.value.estimate, told.value.limit) == (figures.get("estimate"), figures.get("limit"))
    assert (told.value.status, told.value.kind, told.value.parameter) == (status, "too-large", "window")
    assert isinstance(told.value, InvalidParameter)


@pytest.mark.parametrize(
    ("question", "content"),
    [
        (questions.version(), b"<html>"),
        (questions.version(), b'{"data": {"name": 1}}'),
        (series("lighting", "power_w"), b'{"meta": {}}'),
    ],
)
def test_answer_of_something_else_is_an_error(question: Question[Any], content: bytes) -> None:
    found, _, _ = told(question, [Answer(200, {}, content)], Retry())
    assert isinstance(found, UnexpectedAnswer)


def test_parameters_are_written_as_the_service_reads_them() -> None:
    paris = datetime(2026, 3, 29, tzinfo=ZoneInfo("Europe/Paris"))
    given: Mapping[str, Any] = {
        "metric": ("a", "b"),
        "zone": "Centre",
        "percentile": [95, 99.9],
        "start": paris,
        "end": "-24h",
        "max_gap": timedelta(hours=2),
        "explain": True,
        "tz": None,
    }
    assert parameters(**given) == (
        ("metric", "a"),
        ("metric", "b"),
        ("zone", "Centre"),
        ("percentile", "95"),
        ("percentile", "99.9"),
        ("start", "2026-03-28T23:00:00+00:00"),
        ("end", "-24h"),
        ("max_gap", "7200s"),
        ("explain", "true"),
    )
    frame = pl.DataFrame({"device": ["a", "b"]})
    assert parameters(device=frame["device"], zone=frame.to_pandas()["device"], percentile=np.int64(95)) == (  # type: ignore[arg-type]
        *(("device", "a"), ("device", "b"), ("zone", "a"), ("zone", "b")),
        ("percentile", "95"),
    )
    with pytest.raises(InvalidArgument, match="device: an empty sequence"):
        parameters(device=frame.clear()["device"])
    assert parameters(start=datetime(2026, 1, 1, microsecond=1, tzinfo=UTC)) == (
        ("start", "2026-01-01T00:00:00.000001+00:00"),
    )


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"start": datetime(2026, 3, 29)}, "start: 2026-03-29 00:00:00 has no time zone.*allowed: datetime"),  # noqa: DTZ001
        ({"end": date(2026, 3, 29)}, "end: 2026-03-29 is a day.*allowed: datetime"),
        ({"device": []}, "device: an empty sequence would ask about nothing; allowed: one or more, or None for all"),
        ({"max_gap": timedelta(seconds=1.5)}, "max_gap: 0:00:01.500000 is not allowed; allowed: whole seconds"),
        ({"max_gap": timedelta(0)}, "max_gap: 0:00:00 is not allowed"),
    ],
)
def test_parameter_that_means_something_else_than_it_seems_is_refused(given: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        parameters(**given)
    with pytest.raises(ValueError, match=sentence):
        parameters(**given)


NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)
FIRST = datetime.min.replace(tzinfo=ZoneInfo("Asia/Tokyo"))
"""In no year of UTC."""


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: questions.put_meter_swap("a", "b", NOON, start_index=math.nan), "start_index: nan .*finite"),
        (lambda: questions.put_meter_swap("a", "b", NOON, start_index=10**400), "start_index: 10.* .*finite"),
        (lambda: questions.put_meter_swap("a", "b", NOON, start_index=0, final_index=math.inf), "final_index: inf"),
        (lambda: questions.put_meter_swap("a", "b", FIRST, start_index=0), "time: 0001.* in no year of UTC"),
        (lambda: questions.meter_swap("a", "b", date(2026, 3, 29)), "time: 2026-03-29 is a day"),  # type: ignore[arg-type]
        (lambda: questions.delete_meter_swap("a", "b", None), "time: None is not allowed"),  # type: ignore[arg-type]
        (lambda: questions.put_device("a", "lighting", latitude=math.nan), "latitude: nan .*finite"),
        (lambda: questions.put_device("a", "lighting", interval_s=timedelta(minutes=1)), "interval_s: .*finite"),  # type: ignore[arg-type]
        (lambda: questions.put_device("a", "lighting", zone="\ud800"), "zone: .* is no text that can be sent"),
        (lambda: questions.import_devices([{"device_id": "a"}]), "registrations: .*Registration"),  # type: ignore[list-item]
        (lambda: questions.device(""), "device_id: '' is not allowed"),
        (lambda: questions.device(5), "device_id: 5 is not allowed"),  # type: ignore[arg-type]
        (lambda: questions.device("\ud800"), "device_id: .* is no text that can be sent"),
        (lambda: questions.changes(""), "domain: '' is not allowed"),
        (lambda: questions.quarantine_entry(1.5), "number: 1.5 is no id"),  # type: ignore[arg-type]
        (lambda: series("lighting", "\ud800"), "metric: .* is no text that can be sent"),
        (lambda: series("lighting", "power_w", start=FIRST), "start: 0001.* in no year of UTC"),
        (lambda: series("lighting", "power_w", device=b"lamp-1"), "device: b'lamp-1' is not allowed"),  # type: ignore[arg-type]
        (lambda: series("lighting", "power_w", device=[None]), "device: None is not allowed"),  # type: ignore[list-item]
        (lambda: flow_of(readings("lighting")), "question: a ReadingsQuestion cannot be asked at once"),  # type: ignore[arg-type]
        (lambda: questions.download({}, "a.csv"), "question: a dict is none that has a file"),  # type: ignore[arg-type]
        (lambda: questions.download(series("lighting", "power_w"), "", "csv"), "path: '' names no file"),
    ],
)
def test_argument_that_cannot_be_sent_is_refused_by_name(ask: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        ask()


def test_numbers_of_every_library_are_written_as_numbers() -> None:
    for index in (Decimal("1.5"), np.float32(1.5), 1.5):
        flow = questions.put_meter_swap("lamp-1", "energy_kwh", NOON, start_index=index).flow()  # type: ignore[arg-type]
        assert next(flow).request.body == {"start_index": 1.5, "final_index": None}
    whole = questions.put_device("lamp-1", "lighting", interval_s=np.int64(900)).flow()  # type: ignore[arg-type]
    assert json.loads(json.dumps(next(whole).request.body))["interval_s"] == 900


def test_names_in_paths_are_quoted() -> None:
    flow = questions.device("a/b?c").flow()
    assert next(flow) == Send(Request("v1/devices/a%2Fb%3Fc"))
