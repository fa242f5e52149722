"""Readings that are not kept any more: which questions can be answered without them, and what is told of the others.

Readings are dropped with age, their roll-ups never. A question about the time before that has the answer that it had
where roll-ups give it; where it needs readings that are gone, it is refused, for a sum without them would look like
a smaller sum. Of a range that is kept, what lasts into it from readings before it may be gone: that is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain

from telemetry.domains import Kind
from telemetry.errors import NotKept
from telemetry.query.aggregates import Family
from telemetry.query.instants import format_instant
from telemetry.query.neighbours import REACH
from telemetry.query.plan import Plan, needs_time
from telemetry.query.question import By, Question
from telemetry.query.scope import Scope
from telemetry.spans import QUARTER, floor

_BEYOND = (Family.SPREAD, Family.TIME)
_ROLLED_UP = ("avg", "min", "max", "sum", "count")


def refuse_lost(plan: Plan, scope: Scope) -> None:
    """Refuses a plan that reads readings which are gone.

    Raises:
        NotKept: telling from when on they are kept, and what can be asked instead.
    """
    question, kept_from = plan.question, scope.kept_from
    if kept_from is None or question.start >= kept_from:
        return
    if not question.chosen(*_BEYOND) and not any(start < kept_from for start in _raw_starts(plan)):
        return
    reasons, ways = zip(*_causes(plan, kept_from), strict=True)
    shown = format_instant(kept_from, question.zone)
    raise NotKept(
        "start",
        format_instant(question.start, question.zone),
        f"readings before {shown} are not kept any more (retention.readings), and roll-ups, which are, cannot tell "
        f"this: {'; '.join(reasons)}",
        (*dict.fromkeys(chain.from_iterable(ways)), f"start={shown}"),
        kept_from,
    )


def out_of_reach(error: NotKept, outside: Question) -> NotKept:
    """The refusal of a question whose range can be answered, but not what reaches into it from `outside`."""
    assert outside.max_gap is not None
    detail = f"lets values reach into the range for which {error.detail}"
    return NotKept("max_gap", str(outside.max_gap), detail, ("a shorter one", *error.allowed[-1:]), error.kept_from)


def complete_from(plan: Plan, scope: Scope) -> datetime | None:
    """From when on nothing is missing that readings before the range would tell; None where nothing is at all.

    It may lie behind the range.
    """
    question, kept_from = plan.question, scope.kept_from
    if kept_from is None:
        return None
    found = []
    if question.chosen(Family.TIME):
        found.append(kept_from + (question.max_gap or REACH))
    if question.chosen(Family.CHANGE):
        found.append(min(kept_from, scope.counters_from or kept_from) + REACH)
    latest = max(found, default=question.start)
    return latest if latest > question.start else None


def _raw_starts(plan: Plan) -> Iterator[datetime]:
    changes = plan.changes if plan.question.chosen(Family.CHANGE) else ()
    for segment in (*plan.segments, *changes):
        if segment.relation == "readings":
            yield segment.start


def _causes(plan: Plan, kept_from: datetime) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Why readings are needed, and what to ask instead; at least one."""
    question, found = plan.question, False
    if names := _names(question, _BEYOND):
        yield f"{', '.join(names)} look at every reading", tuple(f"agg={name}" for name in _instead(question))
        found = True
    if needs_time(question):
        yield "first and last of several devices depend on when each was measured", (f"by={By.DEVICE}",)
        found = True
    if not plan.edges.are_multiples(QUARTER):
        yield "the windows are not made of quarters of an hour", ("window=15m", "window=1h")
        found = True
    if _is_off(question.start) or (_is_off(question.end) and question.end < kept_from):
        yield "the range does not begin and end with a quarter of an hour", tuple(_whole_quarters(question, kept_from))
        found = True
    if not found:
        yield "roll-ups do not have all of that time", ()


def _instead(question: Question) -> tuple[str, ...]:
    """Aggregates that every metric has and that roll-ups tell."""
    metrics = [question.domain.metrics[name] for name in question.chosen(*_BEYOND)]
    return _ROLLED_UP if all(metric.kind is Kind.GAUGE for metric in metrics) else ("count",)


def _names(question: Question, families: Iterable[Family]) -> list[str]:
    every = chain.from_iterable(question.chosen(*families).values())
    return list(dict.fromkeys(each.name for each in every))


def _whole_quarters(question: Question, kept_from: datetime) -> Iterator[str]:
    if _is_off(question.start):
        yield f"start={format_instant(floor(question.start, QUARTER) + QUARTER, question.zone)}"
    if _is_off(question.end) and question.end < kept_from:
        yield f"end={format_instant(floor(question.end, QUARTER), question.zone)}"


def _is_off(instant: datetime) -> bool:
    return floor(instant, QUARTER) < instant
