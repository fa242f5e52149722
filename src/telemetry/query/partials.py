"""The SQL of a plan: each segment makes partial aggregates per bucket and group, an outer query combines them.

Where each bucket is one cell of a roll-up, a device's row of it is the answer already, and is taken as it is.
"""

# ruff: noqa: S608 - identifiers are our own, values are parameters

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from telemetry.domains import Metric
from telemetry.query.aggregates import Combine, Family
from telemetry.query.plan import Plan, Segment
from telemetry.query.question import By, Question
from telemetry.query.sql import Statement, gathered, grouping, identifier, ordered, scanned

_PARTIALS = {
    "avg": ("sum",),
    "sum": ("sum",),
    "min": ("min",),
    "max": ("max",),
    "first": ("first",),
    "last": ("last",),
    "count": (),
}
_MEMBER = "(array_agg({value} ORDER BY {at}{order}, {tie}{order}) FILTER (WHERE {value} IS NOT NULL))[1]"


def rows_statement(plan: Plan, device_keys: Sequence[int] | None, limit: int) -> Statement:
    """Per metric its count, then its aggregates of the family `rows` in order; see `sql.ordered` for the rows' form.

    Args:
        device_keys: only rows of these devices; None for all.
        limit: rows at most.
    """
    statement = Statement()
    combined, columns, _ = _combined(statement, plan, device_keys)
    return ordered(statement, plan.question.by, combined, columns, limit)


def columns_statement(plan: Plan, device_keys: Sequence[int] | None, limit: int) -> Statement:
    """The same as one row of columns; see `sql.gathered`."""
    statement = Statement()
    combined, columns, keys = _combined(statement, plan, device_keys)
    lone = keys if _is_one(device_keys) else None
    return gathered(statement, plan.question.by, combined, columns, limit, lone)


def _is_one(device_keys: Sequence[int] | None) -> bool:
    return device_keys is not None and len(device_keys) == 1


def _combined(statement: Statement, plan: Plan, device_keys: Sequence[int] | None) -> tuple[str, list[str], str | None]:
    """The query of all rows, the names of its columns behind bucket and group, and the array of device keys."""
    question = plan.question
    edges = statement.add_edges(plan.edges)
    keys = None if device_keys is None else statement.add(list(device_keys), "int[]")
    ways = {each.combine for each in chain.from_iterable(question.chosen(Family.ROWS).values())} - {Combine.ROWS}
    by = By.DEVICE if ways else question.by
    finals = [f"{final} AS v{position}" for position, final in enumerate(_finals(question))]
    is_alone = by is By.DEVICE or _is_one(device_keys)
    ready = [each for each in plan.segments if is_alone and plan.has_buckets_of(each.relation)]
    arms = [_ready(statement, question, each, edges, keys, by) for each in ready]
    if len(ready) < len(plan.segments):
        parts = [_segment(statement, question, each, edges, keys, by) for each in plan.segments if each not in ready]
        arms.append(f"""
            SELECT bucket, grp, {", ".join(finals)}
            FROM ({" UNION ALL ".join(parts)}) AS parts
            GROUP BY bucket, grp
        """)
    combined = " UNION ALL ".join(arms)
    if ways and question.by is not By.DEVICE:
        combined = _across_devices(question, combined, ways.pop())
    return combined, [f"v{position}" for position in range(len(finals))], keys


def _ready(statement: Statement, question: Question, segment: Segment, edges: str, keys: str | None, by: By) -> str:
    """A segment in which each row is a bucket of a group, which no other segment has a part of."""
    at, relation, conditions = scanned(statement, question.domain.name, segment, keys)
    group, join = grouping(by)
    finals = ", ".join(f"{final} AS v{position}" for position, final in enumerate(_ready_finals(question)))
    return f"""
        SELECT width_bucket({at}, {edges}) AS bucket, {group} AS grp, {finals}
        FROM {relation}{join}
        WHERE {conditions}
    """


def _ready_finals(question: Question) -> Iterator[str]:
    for metric in question.metrics:
        count = f"r.{identifier(f'{metric.name}_count')}"
        yield count
        for aggregate in question.chosen(Family.ROWS).get(metric.name, ()):
            match aggregate.name:
                case "avg":
                    yield f"r.{identifier(f'{metric.name}_sum')} / nullif({count}, 0)::float8"
                case name:
                    yield f"r.{identifier(f'{metric.name}_{name}')}"


def _across_devices(question: Question, combined: str, way: Combine) -> str:
    """One value for each device first: counts add up, averages are added or averaged."""
    group, join = grouping(question.by)
    columns, position = [], 0
    for metric in question.metrics:
        columns.append(f"sum(r.v{position})::bigint AS v{position}")
        position += 1
        for _ in question.chosen(Family.ROWS).get(metric.name, ()):
            function = "sum" if way is Combine.SUM else "avg"
            columns.append(f"{function}(r.v{position}) AS v{position}")
            position += 1
    return f"""
        SELECT r.bucket, {group} AS grp, {", ".join(columns)}
        FROM (SELECT *, grp AS device_key FROM ({combined}) AS a) AS r{join}
        GROUP BY 1, 2
    """


def _segment(statement: Statement, question: Question, segment: Segment, edges: str, keys: str | None, by: By) -> str:
    at, relation, conditions = scanned(statement, question.domain.name, segment, keys)
    group, join = grouping(by)
    partials = ", ".join(_partials(question, segment, at))
    return f"""
        SELECT width_bucket({at}, {edges}) AS bucket, {group} AS grp, {partials}
        FROM {relation}{join}
        WHERE {conditions}
        GROUP BY 1, 2
    """


def _needed(question: Question, metric: Metric) -> list[str]:
    aggregates = question.chosen(Family.ROWS).get(metric.name, ())
    return list(dict.fromkeys(chain.from_iterable(_PARTIALS[aggregate.name] for aggregate in aggregates)))


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
        for aggregate in question.chosen(Family.ROWS).get(metric.name, ()):
            yield _final(aggregate.name, metric, position)


def _final(name: str, metric: Metric, position: int) -> str:
    match name:
        case "avg":
            return f"sum(sum{position}) / nullif(sum(count{position}), 0)::float8"
        case "count":
            return f"sum(count{position})::bigint"
        case "first" | "last" if metric.value_type != "number":
            return _member(name, metric, f"{name}{position}", f"{name}_at{position}")
        case "first":
            return f"(min(first{position}))[2]"
        case "last":
            return f"(max(last{position}))[2]"
    return f"{name}({name}{position})"
