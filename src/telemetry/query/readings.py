"""Raw rows in the order of time, a page at a time.

A page is looked for in stretches of the range that grow until it is full: so it costs what the days have that it is of,
not what the range has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import asyncpg

from telemetry.domains import Domain, Metric
from telemetry.query.database import Connection
from telemetry.query.scope import device_keys
from telemetry.query.sql import Statement, identifier
from telemetry.query.widening import widening
from telemetry.spans import Span

_LEAST = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: the last row's time and device key."""

    time: datetime
    device_key: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows.

    Attributes:
        metrics: the columns; with `present_only`, rows that have at least one of them.
        start, end: UTC, half-open.
        newest_first: order of time; the rows of one instant are in order of device key, rising and falling likewise.
        after: go on behind this place.
    """

    domain: Domain
    metrics: Sequence[Metric]
    start: datetime
    end: datetime
    devices: Sequence[str] = ()
    zones: Sequence[str] = ()
    present_only: bool = False
    newest_first: bool = False
    after: Place | None = None
    limit: int = 1000


async def page(connection: Connection, wanted: Wanted) -> list[asyncpg.Record]:
    """Rows: time, device key, received_at, device id, attributes as JSON text, then the metrics.

    Raises:
        InvalidQuery: a device or zone that is asked for is not in the registry.
    """
    keys = await device_keys(connection, wanted.devices, wanted.zones)
    rows: list[asyncpg.Record] = []
    for start, end in widening(_left(wanted), backwards=wanted.newest_first):
        statement = _statement(replace(wanted, start=start, end=end, limit=wanted.limit - len(rows)), keys)
        rows += await connection.fetch(statement.text, *statement.values)
        if len(rows) >= wanted.limit:
            break
    return rows


def _left(wanted: Wanted) -> Span:
    """The range, without what lies before the place; further rows of its instant may be wanted."""
    if wanted.after is None:
        return wanted.start, wanted.end
    at = wanted.after.time
    return (wanted.start, min(wanted.end, at + _LEAST)) if wanted.newest_first else (max(wanted.start, at), wanted.end)


def _statement(wanted: Wanted, keys: Sequence[int] | None) -> Statement:
    statement = Statement()
    columns = [f"r.{identifier(metric.name)}" for metric in wanted.metrics]
    conditions = [
        f"r.time >= {statement.add(wanted.start, 'timestamptz')}",
        f"r.time < {statement.add(wanted.end, 'timestamptz')}",
    ]
    if keys is not None:
        conditions.append(f"r.device_key = ANY ({statement.add(list(keys), 'int[]')})")
    if wanted.present_only:
        conditions.append(f"num_nonnulls({', '.join(columns)}) > 0")
    sign, direction = ("<", "DESC") if wanted.newest_first else (">", "ASC")
    if wanted.after is not None:
        at, key = statement.add(wanted.after.time, "timestamptz"), statement.add(wanted.after.device_key, "int")
        conditions.append(f"(r.time, r.device_key) {sign} ({at}, {key})")
    relation = identifier(f"{wanted.domain.name}_readings")
    statement.text = "\n".join(
        [
            f"SELECT r.time, r.device_key, r.received_at, d.device_id, r.attributes::text, {', '.join(columns)}",
            f"FROM {relation} AS r JOIN devices AS d ON d.device_key = r.device_key",
            f"WHERE {' AND '.join(conditions)}",
            f"ORDER BY r.time {direction}, r.device_key {direction}",
            f"LIMIT {statement.add(wanted.limit, 'bigint')}",
        ]
    )
    return statement
