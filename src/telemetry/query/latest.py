"""The last value of each metric of each device.

A device's newest row answers most of it. A metric that this row lacks is looked for from the newest day on in which the
daily roll-up has it, or from the first quarter of an hour on that the roll-ups may not show yet; so the answer is exact
without a scan of the past.
"""

# ruff: noqa: S608 - identifiers are our own, values are parameters

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from telemetry.domains import Domain, Metric
from telemetry.query.database import Connection
from telemetry.query.scope import refuse_unknown
from telemetry.query.sql import Statement, identifier

MISSED_READINGS = 3
"""A device is silent once it is this many of its intervals late …"""
UNKNOWN_INTERVAL_SILENCE = timedelta(hours=1)
"""… or, where its interval is not known, after this."""


@dataclass(slots=True)
class Latest:
    """What a device said last.

    Attributes:
        time: of its newest reading; None when there is none since the beginning of the search.
        values: by metric: when measured, and the value; metrics without a value are absent.
    """

    device_id: str
    name: str | None
    zone: str | None
    latitude: float | None
    longitude: float | None
    interval_s: float | None
    time: datetime | None
    received_at: datetime | None
    values: dict[str, tuple[datetime, Any]] = field(default_factory=dict)

    def is_online(self, now: datetime) -> bool:
        """Whether it is heard from as often as it should be."""
        if self.time is None:
            return False
        allowed = UNKNOWN_INTERVAL_SILENCE
        if self.interval_s is not None:
            allowed = timedelta(seconds=min(MISSED_READINGS * self.interval_s, 1e9))
        return now - self.time <= allowed


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which devices and metrics.

    Attributes:
        since: values before are not looked for.
        after: go on behind this device id.
    """

    domain: Domain
    metrics: Sequence[Metric]
    since: datetime
    devices: Sequence[str] = ()
    zones: Sequence[str] = ()
    after: str = ""
    limit: int = 1000


async def page(connection: Connection, wanted: Wanted) -> list[Latest]:
    """Devices in order of their ids: those at home in the domain, and those named wherever they are at home.

    Raises:
        InvalidQuery: a device or zone that is asked for is not in the registry.
    """
    await refuse_unknown(connection, wanted.devices, wanted.zones)
    statement = _newest(wanted)
    rows = await connection.fetch(statement.text, *statement.values)
    names = [metric.name for metric in wanted.metrics]
    found = {row[0]: _latest(row, names) for row in rows}
    missing = _missing(found, wanted.metrics)
    if missing:
        statement = _earlier(wanted, missing)
        for key, position, at, number, flag, word in await connection.fetch(statement.text, *statement.values):
            value = next(value for value in (number, flag, word) if value is not None)
            found[key].values[wanted.metrics[position].name] = (at, value)
    return list(found.values())


def _newest(wanted: Wanted) -> Statement:
    statement = Statement()
    conditions = [f'device_id COLLATE "C" > {statement.add(wanted.after, "text")}']
    if wanted.devices:
        conditions.append(f"device_id = ANY ({statement.add(list(wanted.devices), 'text[]')})")
    else:
        conditions.append(f"domain = {statement.add(wanted.domain.name, 'text')}")
    if wanted.zones:
        conditions.append(f"zone = ANY ({statement.add(list(wanted.zones), 'text[]')})")
    columns = ", ".join(f"r.{identifier(metric.name)}" for metric in wanted.metrics)
    statement.text = f"""
        WITH chosen AS MATERIALIZED (
            SELECT * FROM devices WHERE {" AND ".join(conditions)}
            ORDER BY device_id COLLATE "C" LIMIT {statement.add(wanted.limit, "bigint")}
        )
        SELECT d.device_key, d.device_id, d.name, d.zone, d.latitude, d.longitude, d.interval_s,
               r.time, r.received_at, {columns}
        FROM chosen AS d
        LEFT JOIN LATERAL (
            SELECT * FROM {_relation(wanted, "readings")} AS r
            WHERE r.device_key = d.device_key AND r.time >= {statement.add(wanted.since, "timestamptz")}
            ORDER BY r.time DESC LIMIT 1
        ) AS r ON true
        ORDER BY d.device_id COLLATE "C"
    """
    return statement


def _latest(row: asyncpg.Record, names: Sequence[str]) -> Latest:
    """By position, in the order of the columns: there may be a hundred thousand of them."""
    found, time = Latest(*row[1:9]), row[7]
    found.values = {name: (time, value) for name, value in zip(names, row[9:], strict=True) if value is not None}
    return found


def _missing(found: Mapping[int, Latest], metrics: Sequence[Metric]) -> list[tuple[int, list[int]]]:
    """By position of a metric, the keys of the devices whose newest row lacks it."""
    missing = []
    for position, metric in enumerate(metrics):
        keys = [key for key, each in found.items() if each.time is not None and metric.name not in each.values]
        if keys:
            missing.append((position, keys))
    return missing


def _earlier(wanted: Wanted, missing: Sequence[tuple[int, list[int]]]) -> Statement:
    statement = Statement()
    since = statement.add(wanted.since, "timestamptz")
    domain = statement.add(wanted.domain.name, "text")
    counts = ", ".join(
        f"max(bucket) FILTER (WHERE {identifier(f'{wanted.metrics[position].name}_count')} > 0) AS day{position}"
        for position, _ in missing
    )
    lacking = statement.add(sorted({key for _, keys in missing for key in keys}), "int[]")
    arms = [_earlier_arm(statement, wanted, position, keys, since) for position, keys in missing]
    statement.text = f"""
        WITH late AS (
            SELECT min(bucket) AS start FROM late_ranges
            WHERE domain = {domain} AND bucket > {since} - interval '15 minutes'
        ), days AS MATERIALIZED (
            SELECT device_key, {counts} FROM {_relation(wanted, "1d")}
            WHERE bucket > {since} - interval '25 hours' AND device_key = ANY ({lacking})
            GROUP BY device_key
        )
        {" UNION ALL ".join(arms)}
    """
    return statement


def _earlier_arm(statement: Statement, wanted: Wanted, position: int, keys: Sequence[int], since: str) -> str:
    metric = wanted.metrics[position]
    column = f"r.{identifier(metric.name)}"
    types = {"number": "float8", "boolean": "boolean", "enum": "text"}
    value = ", ".join(column if kind == metric.value_type else f"NULL::{name}" for kind, name in types.items())
    return f"""
        SELECT k.device_key, {position}, r.*
        FROM unnest({statement.add(list(keys), "int[]")}) AS k (device_key)
        LEFT JOIN days USING (device_key)
        CROSS JOIN late
        CROSS JOIN LATERAL (
            SELECT r.time, {value} FROM {_relation(wanted, "readings")} AS r
            WHERE r.device_key = k.device_key AND {column} IS NOT NULL
              AND r.time >= greatest({since}, coalesce(days.day{position}, late.start))
              AND coalesce(days.day{position}, late.start) IS NOT NULL
            ORDER BY r.time DESC LIMIT 1
        ) AS r
    """


def _relation(wanted: Wanted, suffix: str) -> str:
    return identifier(f"{wanted.domain.name}_{suffix}")
