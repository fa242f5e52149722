"""The last value of each metric of each device.

A device's newest row answers most of it. A metric that this row lacks is looked for from the newest day on in which the
daily roll-up has it, or from the first quarter of an hour on that the roll-ups may not show yet; so the answer is exact
without a scan of the past.

There may be a hundred thousand devices, so they are looked up some thousand at a time, and come as columns: to make an
object of each row took as long as to find it.
"""

# ruff: noqa: S608 - identifiers are our own, values are parameters

from __future__ import annotations

import sys
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from telemetry.domains import Domain, Metric
from telemetry.query.database import Connection
from telemetry.query.instants import microseconds
from telemetry.query.scope import refuse_unknown
from telemetry.query.sql import Statement, identifier
from telemetry.spans import LONGEST_DAY, QUARTER

MISSED_READINGS = 3
"""A device is silent once it is this many of its intervals late …"""
UNKNOWN_INTERVAL_SILENCE = timedelta(hours=1)
"""… or, where its interval is not known, after this."""
BLOCK = 2_000
"""Devices that are looked up at a time; other requests get their turn in between."""
NEVER = -(2**63)
"""The time of a reading that there is not; the database sends it as `-infinity`."""

_POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01 in µs since 1970: what the database counts from."""


@dataclass(frozen=True, slots=True)
class Block:
    """What some devices said last, column by column: the same place in each column is the same device.

    Attributes:
        times: of the newest readings, in µs since 1970; `NEVER` where there is none since the beginning of the search.
        received: when they were received, likewise.
        values: of the newest readings, a column for each metric in the order asked; None where a reading lacks it.
        earlier: by place, what was found before the newest reading: position of the metric, time in µs, value.
    """

    device_keys: Sequence[int]
    device_ids: Sequence[str]
    names: Sequence[str | None]
    zones: Sequence[str | None]
    latitudes: Sequence[float | None]
    longitudes: Sequence[float | None]
    intervals_s: Sequence[float | None]
    times: Sequence[int]
    received: Sequence[int]
    values: Sequence[Sequence[Any]]
    earlier: dict[int, list[tuple[int, int, Any]]]


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


def silence_us(interval_s: float | None) -> int:
    """Whole µs after its newest reading after which a device that sends so often is silent."""
    allowed = UNKNOWN_INTERVAL_SILENCE
    if interval_s is not None:
        allowed = timedelta(seconds=min(MISSED_READINGS * interval_s, 1e9))
    return allowed // timedelta(microseconds=1)


async def blocks(connection: Connection, wanted: Wanted) -> AsyncIterator[Block]:
    """Devices in order of their ids, at least one at a time: those at home in the domain, and those named wherever they
    are at home.

    Raises:
        InvalidQuery: a device or zone that is asked for is not in the registry.
    """
    await refuse_unknown(connection, wanted.devices, wanted.zones)
    left = wanted.limit
    while left > 0:
        size = min(left, BLOCK)
        block = await _block(connection, replace(wanted, limit=size))
        if block is None:
            return
        yield block
        if len(block.device_ids) < size:
            return
        left -= size
        wanted = replace(wanted, after=block.device_ids[-1])


async def _block(connection: Connection, wanted: Wanted) -> Block | None:
    statement = _newest(wanted)
    row = await connection.fetchrow(statement.text, *statement.values)
    assert row is not None
    keys, ids, names, zones, latitudes, longitudes, intervals, times, received, *values = row
    if keys is None:
        return None
    at, received_at = _instants(times), _instants(received)
    block = Block(keys, ids, names, zones, latitudes, longitudes, intervals, at, received_at, values, {})
    missing = list(_missing(block))
    if missing:
        await _add_earlier(connection, wanted, block, missing)
    return block


def _newest(wanted: Wanted) -> Statement:
    statement = Statement()
    conditions = [f'device_id COLLATE "C" > {statement.add(wanted.after, "text")}']
    if wanted.devices:
        conditions.append(f"device_id = ANY ({statement.add(list(wanted.devices), 'text[]')})")
    else:
        conditions.append(f"domain = {statement.add(wanted.domain.name, 'text')}")
    if wanted.zones:
        conditions.append(f"zone = ANY ({statement.add(list(wanted.zones), 'text[]')})")
    # Under names of their own: a metric may be called as a column of the registry.
    columns = [f"r.{identifier(metric.name)} AS v{position}" for position, metric in enumerate(wanted.metrics)]
    # Aggregates take the rows of a sorted subquery in its order. Instants leave as the bytes that the database keeps:
    # a column of them is read at once.
    statement.text = f"""
        SELECT array_agg(device_key), array_agg(device_id), array_agg(name), array_agg(zone),
               array_agg(latitude), array_agg(longitude), array_agg(interval_s),
               string_agg(timestamptz_send(coalesce(time, '-infinity')), ''),
               string_agg(timestamptz_send(coalesce(received_at, '-infinity')), ''),
               {", ".join(f"array_agg(v{position})" for position in range(len(columns)))}
        FROM (
            SELECT d.*, r.*
            FROM (
                SELECT device_key, device_id, name, zone, latitude, longitude, interval_s
                FROM devices WHERE {" AND ".join(conditions)}
                ORDER BY device_id COLLATE "C" LIMIT {statement.add(wanted.limit, "bigint")}
            ) AS d
            LEFT JOIN LATERAL (
                SELECT r.time, r.received_at, {", ".join(columns)}
                FROM {_relation(wanted, "readings")} AS r
                WHERE r.device_key = d.device_key AND r.time >= {statement.add(wanted.since, "timestamptz")}
                ORDER BY r.time DESC LIMIT 1
            ) AS r ON true
            ORDER BY d.device_id COLLATE "C"
        ) AS found
    """
    return statement


def _instants(sent: bytes) -> Sequence[int]:
    """µs since 1970 of a column of instants as the database sends them."""
    found = array("q", sent)
    if sys.byteorder == "little":
        found.byteswap()
    return [NEVER if us == NEVER else us + _POSTGRES_EPOCH_US for us in found]


def _missing(block: Block) -> Iterator[tuple[int, list[int]]]:
    """By position of a metric, the keys of the devices whose newest row lacks it."""
    for position, column in enumerate(block.values):
        if None in column:
            places = zip(column, block.times, block.device_keys, strict=True)
            keys = [key for value, time, key in places if value is None and time != NEVER]
            if keys:
                yield position, keys


async def _add_earlier(
    connection: Connection, wanted: Wanted, block: Block, missing: Sequence[tuple[int, list[int]]]
) -> None:
    places = {key: place for place, key in enumerate(block.device_keys)}
    statement = _earlier(wanted, missing)
    for key, position, at, number, flag, word in await connection.fetch(statement.text, *statement.values):
        value = next(value for value in (number, flag, word) if value is not None)
        block.earlier.setdefault(places[key], []).append((position, microseconds(at), value))


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
            WHERE domain = {domain} AND bucket > {statement.add(wanted.since - QUARTER, "timestamptz")}
        ), days AS MATERIALIZED (
            SELECT device_key, {counts} FROM {_relation(wanted, "1d")}
            WHERE bucket > {statement.add(wanted.since - LONGEST_DAY, "timestamptz")} AND device_key = ANY ({lacking})
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
              -- The first is known when this is planned, so it alone leaves out whole days.
              AND r.time >= {since} AND r.time >= coalesce(days.day{position}, late.start)
              AND coalesce(days.day{position}, late.start) IS NOT NULL
            ORDER BY r.time DESC LIMIT 1
        ) AS r
    """


def _relation(wanted: Wanted, suffix: str) -> str:
    return identifier(f"{wanted.domain.name}_{suffix}")
