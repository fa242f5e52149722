"""Rows of a small city for tests of questions, and the answers computed from them in memory, the long way round."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from telemetry.query.aggregates import Aggregate
from telemetry.query.calendar import Window
from telemetry.query.question import By, Question
from telemetry.query.series import Series
from telemetry.store import devices as registry
from telemetry.store.partitions import ensure_partitions

QUARTER = timedelta(minutes=15)
STEP = timedelta(minutes=1)
"""Windows of these tests are whole minutes, as are the offsets of the zones of today."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    """One reading; what `values` does not name was not measured."""

    time: datetime
    device: registry.Device
    values: Mapping[str, Any]


@dataclass
class City:
    """The rows that a database holds.

    Attributes:
        domain: whose table they are in.
    """

    connection: asyncpg.Connection
    domain: str
    devices: Sequence[registry.Device]
    rows: list[Row] = field(default_factory=list)

    async def register(self) -> None:
        """Makes the devices known."""
        await registry.upsert(self.connection, self.devices)

    async def add(self, rows: Iterable[Row]) -> None:
        """Stores rows as ingest does: rows and the list of touched quarters in one transaction."""
        rows = list(rows)
        keys = await registry.keys(self.connection)
        metrics = sorted({name for row in rows for name in row.values})
        await ensure_partitions(self.connection, self.domain, {row.time.date() for row in rows})
        async with self.connection.transaction():
            await self.connection.copy_records_to_table(
                f"{self.domain}_readings",
                columns=["time", "received_at", "device_key", *metrics],
                records=[
                    (row.time, row.time, keys[row.device.device_id], *(row.values.get(name) for name in metrics))
                    for row in rows
                ],
            )
            await self.connection.copy_records_to_table(
                "late_ranges",
                columns=["domain", "bucket"],
                records=[(self.domain, quarter) for quarter in {_floor(row.time, QUARTER) for row in rows}],
            )
        self.rows += rows


Key = tuple[datetime, str | None, str]
"""Start of the bucket, group, metric."""


def expected(rows: Iterable[Row], question: Question) -> dict[Key, dict[str, Any]]:
    """What a question must answer, by bucket, group and metric; straight from its definition."""
    groups: defaultdict[Key, list[tuple[datetime, Any]]] = defaultdict(list)
    for row in rows:
        if not _asked_for(row, question):
            continue
        start = bucket_start(row.time, question.window, question.zone)
        for metric in question.metrics:
            if row.values.get(metric.name) is not None:
                groups[start, _group(row, question.by), metric.name].append((row.time, row.values[metric.name]))
    return {
        key: {"samples": len(values)} | {each.name: _aggregated(each, values) for each in question.aggregates[key[2]]}
        for key, values in groups.items()
    }


def answered(series: Series) -> dict[Key, dict[str, Any]]:
    """The answer in the same form."""
    question = series.plan.question
    found: dict[Key, dict[str, Any]] = {}
    for point in series.points:
        metric = question.metrics[point.metric].name
        key = (series.plan.edges[point.bucket - 1], point.group, metric)
        assert key not in found, key
        names = [aggregate.name for aggregate in question.aggregates[metric]]
        found[key] = {"samples": point.samples} | dict(zip(names, point.values, strict=True))
    return found


def assert_same(found: Mapping[Key, Mapping[str, Any]], wanted: Mapping[Key, Mapping[str, Any]]) -> None:
    """Equal; sums and averages up to the order in which doubles were added."""
    assert sorted(found, key=str) == sorted(wanted, key=str)
    for key, cells in wanted.items():
        for name, value in cells.items():
            if name in ("sum", "avg"):
                assert math.isclose(found[key][name], value, rel_tol=1e-12, abs_tol=1e-9), (key, name)
            else:
                assert found[key][name] == value, (key, name)


def bucket_start(at: datetime, window: Window, zone: ZoneInfo) -> datetime:
    """Start of the bucket that holds an instant, in UTC, by arithmetic on that instant alone."""
    day = at.astimezone(zone).date()
    match window.unit:
        case "week":
            day -= timedelta(days=day.weekday())
        case "month":
            day = day.replace(day=1)
        case "year":
            day = day.replace(month=1, day=1)
    start = _midnight(day, zone)
    if window.unit != "second":
        return start
    return max(start for start in _starts(day, window.seconds, zone) if start <= at)


@cache
def _starts(day: date, seconds: int, zone: ZoneInfo) -> list[datetime]:
    """Starts of a day's buckets, found by watching the clocks minute by minute."""
    at, end = _midnight(day, zone), _midnight(day + timedelta(days=1), zone)
    starts: list[datetime] = []
    previous, greatest = -1, -1
    while at < end:
        local = at.astimezone(zone)
        shown = local.hour * 3600 + local.minute * 60
        if previous - shown + 60 >= seconds:
            greatest = -1  # they went back by a whole bucket or more
        if shown // seconds > greatest:
            greatest = shown // seconds
            starts.append(at)
        previous = shown
        at += STEP
    return starts


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _floor(at: datetime, width: timedelta) -> datetime:
    return at - (at - EPOCH) % width


def _asked_for(row: Row, question: Question) -> bool:
    return (
        question.start <= row.time < question.end
        and (not question.devices or row.device.device_id in question.devices)
        and (not question.zones or row.device.zone in question.zones)
    )


def _group(row: Row, by: By) -> str | None:
    return {By.NONE: None, By.DEVICE: row.device.device_id, By.ZONE: row.device.zone}[by]


def _aggregated(aggregate: Aggregate, values: Sequence[tuple[datetime, Any]]) -> Any:
    numbers = [value for _, value in values]
    match aggregate.name:
        case "count":
            return len(numbers)
        case "sum":
            return math.fsum(numbers)
        case "avg":
            return math.fsum(numbers) / len(numbers)
        case "min":
            return min(numbers)
        case "max":
            return max(numbers)
        case "first":
            return min(values)[1]
        case "last":
            return max(values)[1]
    raise NotImplementedError(aggregate)
