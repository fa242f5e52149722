"""Raw rows in the order of time, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from telemetry.domains import Domain, Metric
from telemetry.query.database import Connection
from telemetry.query.scope import device_keys
from telemetry.query.sql import Statement, identifier


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
    statement = _statement(wanted, keys)
    return await connection.fetch(statement.text, *statement.values)


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
        at = statement.add(wanted.after.time, "timestamptz")
        # The first condition alone can leave out whole partitions.
        conditions.append(f"r.time {sign}= {at}")
        conditions.append(f"(r.time, r.device_key) {sign} ({at}, {statement.add(wanted.after.device_key, 'int')})")
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
