"""The SQL of a plan: each segment makes partial aggregates per bucket and group, an outer query combines them.

Identifiers come from the domain registry alone and values travel as parameters, so no word of the asker becomes SQL.
`width_bucket` finds the bucket of a row by binary search in the array of edges: exact for any calendar, on any engine.
"""

# ruff: noqa: S608 - identifiers are our own, values are parameters

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from telemetry.domains import Metric
from telemetry.query.aggregates import Aggregate
from telemetry.query.plan import Plan, Segment
from telemetry.query.question import By, Question

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,59}")

_PARTIALS = {
    Aggregate.AVG: ("sum",),
    Aggregate.SUM: ("sum",),
    Aggregate.MIN: ("min",),
    Aggregate.MAX: ("max",),
    Aggregate.FIRST: ("first",),
    Aggregate.LAST: ("last",),
    Aggregate.COUNT: (),
}
_MEMBER = "(array_agg({value} ORDER BY {at}{order}, {tie}{order}) FILTER (WHERE {value} IS NOT NULL))[1]"


@dataclass
class Statement:
    """SQL text and its parameters; `add` returns the placeholder of a value."""

    text: str = ""
    values: list[Any] = field(default_factory=list)

    def add(self, value: Any, type_name: str) -> str:
        """Adds a value of a PostgreSQL type and returns its placeholder."""
        self.values.append(value)
        return f"${len(self.values)}::{type_name}"


def identifier(name: str) -> str:
    """A name of the registry as an SQL identifier."""
    assert _IDENTIFIER.fullmatch(name), name
    return f'"{name}"'


def series_statement(plan: Plan, device_keys: Sequence[int] | None, limit: int) -> Statement:
    """One row per bucket (from 1) and group, in this order: bucket, group, per metric its count and its aggregates.

    Grouped by device, the group is the device's id, and the seconds between its readings are the last column.

    Args:
        device_keys: only rows of these devices; None for all.
        limit: rows at most.
    """
    statement = Statement()
    edges = statement.add(plan.edges, "timestamptz[]")
    keys = None if device_keys is None else statement.add(list(device_keys), "int[]")
    arms = [_segment(statement, plan.question, segment, edges, keys) for segment in plan.segments]
    finals = [f"{final} AS v{position}" for position, final in enumerate(_finals(plan.question))]
    combined = "\n".join(
        [
            f"SELECT bucket, grp, {', '.join(finals)}",
            f"FROM ({' UNION ALL '.join(arms)}) AS parts",
            "GROUP BY bucket, grp",
        ]
    )
    statement.text = f"{_ordered(plan.question.by, combined, len(finals))}\nLIMIT {statement.add(limit, 'bigint')}"
    return statement


def _ordered(by: By, combined: str, width: int) -> str:
    match by:
        case By.NONE:
            return f"{combined} ORDER BY bucket"
        case By.ZONE:
            return f'{combined} ORDER BY bucket, grp COLLATE "C"'
    values = ", ".join(f"a.v{position}" for position in range(width))
    named = f"SELECT a.bucket, d.device_id, {values}, d.interval_s FROM ({combined}) AS a"
    return f'{named} JOIN devices AS d ON d.device_key = a.grp ORDER BY a.bucket, d.device_id COLLATE "C"'


def _segment(statement: Statement, question: Question, segment: Segment, edges: str, keys: str | None) -> str:
    at = "r.time" if segment.relation == "readings" else "r.bucket"
    conditions = [
        f"{at} >= {statement.add(segment.start, 'timestamptz')}",
        f"{at} < {statement.add(segment.end, 'timestamptz')}",
    ]
    if len(segment.spans) > 1:
        # Odd between the two ends of a span, even between two spans.
        ends = statement.add(list(chain.from_iterable(segment.spans)), "timestamptz[]")
        conditions.append(f"width_bucket({at}, {ends}) % 2 = 1")
    if keys is not None:
        conditions.append(f"r.device_key = ANY ({keys})")
    group, join = _group(question.by)
    relation = identifier(f"{question.domain.name}_{segment.relation}")
    partials = ", ".join(_partials(question, segment, at))
    return "\n".join(
        [
            f"SELECT width_bucket({at}, {edges}) AS bucket, {group} AS grp, {partials}",
            f"FROM {relation} AS r{join}",
            f"WHERE {' AND '.join(conditions)}",
            "GROUP BY 1, 2",
        ]
    )


def _group(by: By) -> tuple[str, str]:
    if by is By.DEVICE:
        return "r.device_key", ""
    if by is By.ZONE:
        return "d.zone", " JOIN devices AS d ON d.device_key = r.device_key"
    return "0", ""


def _needed(question: Question, metric: Metric) -> list[str]:
    partials = chain.from_iterable(_PARTIALS[aggregate] for aggregate in question.aggregates[metric.name])
    return list(dict.fromkeys(partials))


def _partials(question: Question, segment: Segment, at: str) -> Iterator[str]:
    """Partial aggregates of one segment, each named by the metric's position (`sum0`)."""
    for position, metric in enumerate(question.metrics):
        if segment.relation == "readings":
            columns = dict.fromkeys(("count", "sum", "min", "max", "first", "last"), f"r.{identifier(metric.name)}")
            yield f"count({columns['count']}) AS count{position}"
        else:
            columns = {
                partial: f"r.{identifier(f'{metric.name}_{partial}')}"
                for partial in ("count", "sum", "min", "max", "first", "last")
            }
            yield f"sum({columns['count']})::bigint AS count{position}"
        for partial in _needed(question, metric):
            if partial in ("first", "last"):
                yield _end_partial(metric, partial, columns[partial], at, position)
            else:
                yield f"{partial}({columns[partial]}) AS {partial}{position}"


def _end_partial(metric: Metric, partial: str, value: str, at: str, position: int) -> str:
    """The first or last value with its time: of a number as one array, of a state as two columns."""
    if metric.value_type == "number":
        function = "min" if partial == "first" else "max"
        pair = f"ARRAY[date_part('epoch', {at}), {value}]"
        return f"{function}({pair}) FILTER (WHERE {value} IS NOT NULL) AS {partial}{position}"
    member = _member(partial, metric, value, at)
    when = f"{'min' if partial == 'first' else 'max'}({at}) FILTER (WHERE {value} IS NOT NULL)"
    return f"{member} AS {partial}{position}, {when} AS {partial}_at{position}"


def _member(partial: str, metric: Metric, value: str, at: str) -> str:
    order = "" if partial == "first" else " DESC"
    tie = f'{value} COLLATE "C"' if metric.value_type == "enum" else value
    return _MEMBER.format(value=value, at=at, tie=tie, order=order)


def _finals(question: Question) -> Iterator[str]:
    for position, metric in enumerate(question.metrics):
        yield f"sum(count{position})::bigint"
        for aggregate in question.aggregates[metric.name]:
            yield _final(aggregate, metric, position)


def _final(aggregate: Aggregate, metric: Metric, position: int) -> str:
    match aggregate:
        case Aggregate.AVG:
            return f"sum(sum{position}) / nullif(sum(count{position}), 0)::float8"
        case Aggregate.COUNT:
            return f"sum(count{position})::bigint"
        case Aggregate.FIRST | Aggregate.LAST if metric.value_type != "number":
            return _member(aggregate, metric, f"{aggregate}{position}", f"{aggregate}_at{position}")
        case Aggregate.FIRST:
            return f"(min(first{position}))[2]"
        case Aggregate.LAST:
            return f"(max(last{position}))[2]"
        case _:
            return f"{aggregate}(({aggregate}{position}))"
