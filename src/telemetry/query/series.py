"""Answering a question about time windows: scope, size, plan, SQL, within one snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from telemetry.errors import InvalidQuery
from telemetry.query.calendar import WINDOWS, bucket_edges
from telemetry.query.database import Connection
from telemetry.query.plan import Plan, make_plan
from telemetry.query.question import Question
from telemetry.query.scope import Scope, find_scope
from telemetry.query.sql import series_statement

_MARGIN = timedelta(days=2)
"""Late quarters this far outside the range may lie in a cell that touches it."""


@dataclass(frozen=True, slots=True)
class Series:
    """An answer.

    Attributes:
        rows: per bucket (numbered from 1) and group that has rows: bucket, group, then per metric the number of its
            values and its aggregates in the order asked; grouped by device, the device's interval in seconds comes
            last. The group is a device's id or a zone's name (None for devices without one).
    """

    plan: Plan
    scope: Scope
    rows: list[asyncpg.Record]


async def answer(connection: Connection, question: Question, max_values: int) -> Series:
    """The answer, read within the snapshot of the connection.

    Raises:
        InvalidQuery: the answer would have more than `max_values` values, or a device or zone is not there.
    """
    _refuse_more_buckets(question, max_values)
    scope = await find_scope(connection, question, _MARGIN)
    edges = bucket_edges(question.window, question.start, question.end, question.zone)
    _refuse_more_values(question, len(edges) - 1, scope.groups, max_values)
    plan = make_plan(question, edges, scope.late, scope.city_zone)
    # Devices that are at home elsewhere may report here as well, so there may be more groups than were counted.
    limit = max_values // question.values_per_bucket + 1
    statement = series_statement(plan, scope.device_keys, limit)
    rows = await connection.fetch(statement.text, *statement.values)
    if len(rows) == limit:
        raise _too_large(f"more than {max_values:,} values", max_values)
    return Series(plan, scope, rows)


def _refuse_more_buckets(question: Question, max_values: int) -> None:
    """Refuses before the edges are laid: a second's windows of a century would not fit into memory."""
    least = int((question.end - question.start) / question.window.nominal)
    if least * question.values_per_bucket > max_values:
        raise _too_large(f"at least {least * question.values_per_bucket:,} values", max_values)


def _refuse_more_values(question: Question, buckets: int, groups: int, max_values: int) -> None:
    values = buckets * groups * question.values_per_bucket
    if values > max_values:
        series = groups * question.values_per_bucket
        raise _too_large(f"up to {values:,} values ({buckets:,} buckets x {series:,} series)", max_values)


def _too_large(size: str, max_values: int) -> InvalidQuery:
    return InvalidQuery(
        "window",
        size,
        f"the answer would have {size}, and {max_values:,} are allowed; ask for a wider window, a shorter range, "
        "fewer metrics and aggregates, or fewer devices",
        WINDOWS,
    )
