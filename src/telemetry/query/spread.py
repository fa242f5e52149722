"""The SQL of aggregates that need all values of a bucket at once: raw rows only.

`stddev` is that of a sample (divided by n - 1; null for one value). Percentiles lie on the line between the two nearest
values, as `percentile_cont` has them.
"""

# ruff: noqa: S608 - identifiers are our own, values are parameters

from __future__ import annotations

from collections.abc import Sequence

from telemetry.query.aggregates import Aggregate, Family
from telemetry.query.edges import Edges
from telemetry.query.plan import Segment
from telemetry.query.question import Question
from telemetry.query.sql import Statement, grouping, identifier, ordered, scanned


def spread_statement(question: Question, edges: Edges, device_keys: Sequence[int] | None, limit: int) -> Statement:
    """The aggregates of the family `spread`, metric by metric in order; see `sql.ordered` for the rows' form."""
    statement = Statement()
    placed = statement.add_edges(edges)
    keys = None if device_keys is None else statement.add(list(device_keys), "int[]")
    segment = Segment("readings", ((question.start, question.end),))
    at, relation, conditions = scanned(statement, question.domain.name, segment, keys)
    group, join = grouping(question.by)
    chosen = question.chosen(Family.SPREAD)
    columns = [f"r.{identifier(name)}" for name in chosen]
    finals = [
        f"{_final(statement, aggregate, column)} AS v{position}"
        for position, (aggregate, column) in enumerate(
            (aggregate, column) for column, name in zip(columns, chosen, strict=True) for aggregate in chosen[name]
        )
    ]
    combined = f"""
        SELECT width_bucket({at}, {placed}) AS bucket, {group} AS grp, {", ".join(finals)}
        FROM {relation}{join}
        WHERE {conditions} AND num_nonnulls({", ".join(columns)}) > 0
        GROUP BY 1, 2
    """
    return ordered(statement, question.by, combined, [f"v{position}" for position in range(len(finals))], limit)


def _final(statement: Statement, aggregate: Aggregate, column: str) -> str:
    if aggregate.name == "stddev":
        return f"stddev_samp({column})"
    fraction = statement.add(aggregate.fraction, "float8")
    return f"percentile_cont({fraction}) WITHIN GROUP (ORDER BY {column})"
