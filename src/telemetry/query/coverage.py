"""How many values a bucket could have had: from the interval of each device and the time that lies in the bucket.

Of a group, the registry tells who is expected: a device that was silent all the time must lower the coverage, too, and
which range is asked must not matter. A device is expected to send a metric
- if it has a value of it in the range, or in the `PAST` days before it;
- or, if nothing at all came from it in all that time, if it is at home in the domain and its interval is known;
from the bucket on in which it was registered or has its first value, whichever is earlier. One that sends other metrics
and never had this one is taken for a device that does not measure it.
"""

# ruff: noqa: S608 - identifiers are our own, values are parameters

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import groupby
from operator import itemgetter

import asyncpg

from telemetry.query.database import Connection
from telemetry.query.edges import SECOND, Edges
from telemetry.query.instants import microseconds
from telemetry.query.plan import Plan, Segment
from telemetry.query.question import By, Question
from telemetry.query.size import aside
from telemetry.query.sql import Statement, identifier, scanned
from telemetry.spans import LONGEST_DAY

Group = str | None
"""A device's id or the name of a zone; None for devices without a zone, and for all devices together."""


PAST = timedelta(days=366)
"""A device that had a value so long ago is still expected to send one."""

Fleet = Sequence[tuple[int, float | None]]
"""Values per second of some devices together, from a bucket on until the next one; None where an interval is not known.
In order of buckets, which count from 1."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What was to be expected.

    Attributes:
        seconds: of each bucket, within the range and before now.
        fleets: by metric and group. Empty where each row brings the interval of its device.
    """

    seconds: Sequence[float]
    fleets: Mapping[tuple[str, Group], Fleet]

    def coverage(self, bucket: int, metric: str, group: Group, interval_s: float | None, samples: int) -> float | None:
        """The share of the expected values that are there, 0 to 1; None where it cannot be known."""
        seconds = self.seconds[bucket - 1]
        if interval_s:
            return share(seconds, 1 / interval_s, samples)
        fleet = self.fleets.get((metric, group), ())
        place = bisect_right(fleet, bucket, key=itemgetter(0))
        return share(seconds, fleet[place - 1][1] if place else None, samples)


def share(seconds: float, per_second: float | None, samples: int) -> float | None:
    """Samples as a share of the values that should have come in so many seconds."""
    values = (per_second or 0.0) * seconds
    return min(1.0, round(samples / values, 4)) if values else None


async def find_expected(
    connection: Connection, plan: Plan, edges: Edges, device_keys: Sequence[int] | None
) -> Expected:
    """What was to be expected in each bucket.

    Of groups, finding it takes a look at the rows of its own, so it is done for questions that ask for it.
    """
    question = plan.question
    seconds = await aside(partial(_seconds, question, edges), len(edges))
    if question.by is By.DEVICE or not question.coverage:
        return Expected(seconds, {})
    statement = _fleets_statement(plan, device_keys)
    rows = await connection.fetch(statement.text, *statement.values)
    fleets = groupby(rows, key=itemgetter(0, 1))
    return Expected(seconds, {key: _added_up(each) for key, each in fleets})


def _added_up(rows: Iterable[asyncpg.Record]) -> Fleet:
    """Of the devices that begin in each bucket, those that have begun."""
    found: list[tuple[int, float | None]] = []
    together: float | None = 0.0
    for _, _, bucket, per_second in rows:
        together = None if together is None or per_second is None else together + per_second
        found.append((bucket, together))
    return found


def _seconds(question: Question, edges: Edges) -> list[float]:
    first, last = microseconds(question.start), microseconds(min(question.end, question.now))
    found = edges.seconds()
    # Only the first edge lies before the range; behind it are those that the range or now cuts off.
    within = edges.up_to(last - 1)
    found[within:] = [0.0] * (len(found) - within)
    for bucket in {0, max(0, within - 1)}:
        found[bucket] = max(0, min(edges.at(bucket + 1), last) - max(edges.at(bucket), first)) / SECOND
    return found


def _fleets_statement(plan: Plan, device_keys: Sequence[int] | None) -> Statement:
    """Metric, group, bucket, and values per second of the devices that are expected from that bucket on; NULL if one
    is unknown. In this order.
    """
    statement, question = Statement(), plan.question
    keys = None if device_keys is None else statement.add(list(device_keys), "int[]")
    edges = statement.add_edges(plan.edges)
    end = statement.add(question.end, "timestamptz")
    positions = range(len(question.metrics))
    firsts = ", ".join(f"width_bucket(min(first{position}), {edges}) AS first{position}" for position in positions)
    parts = " UNION ALL ".join(_firsts(statement, question, segment, keys) for segment in plan.segments)
    had = ", ".join(
        f"bool_or(r.{identifier(f'{metric.name}_count')} > 0) AS had{position}"
        for position, metric in enumerate(question.metrics)
    )
    names = statement.add([metric.name for metric in question.metrics], "text[]")
    lists = [", ".join(f"{each}{position}" for position in positions) for each in ("f.first", "p.had")]
    group = "f.zone" if question.by is By.ZONE else "NULL::text"
    # Only days that are wholly before the range.
    statement.text = f"""
        {statement.beginning}
        SELECT * FROM (
        WITH present AS MATERIALIZED (
            SELECT device_key, {firsts} FROM ({parts}) AS parts GROUP BY device_key
        ), fleet AS MATERIALIZED (
            SELECT d.device_key, d.zone, d.interval_s, d.domain = {statement.add(question.domain.name, "text")} AS home,
                   r.device_key IS NOT NULL AS present, {lists[0].replace("f.", "r.")},
                   CASE WHEN d.first_seen < {end}
                        THEN greatest(width_bucket(d.first_seen, {edges}), 1) END AS registered
            FROM devices AS d LEFT JOIN present AS r USING (device_key)
            WHERE {"true" if keys is None else f"d.device_key = ANY ({keys})"}
        ), past AS MATERIALIZED (
            SELECT r.device_key, {had} FROM {identifier(f"{question.domain.name}_1d")} AS r
            WHERE r.bucket > {statement.add(question.start - PAST, "timestamptz")}
              AND r.bucket <= {statement.add(question.start - LONGEST_DAY, "timestamptz")}
              AND r.device_key IN (
                  SELECT device_key FROM fleet AS f
                  WHERE registered IS NULL OR registered > 1 OR num_nulls({lists[0]}) > 0
              )
            GROUP BY r.device_key
        )
        SELECT metric, grp, began, CASE WHEN bool_and(interval_s IS NOT NULL) THEN sum(1 / interval_s) END AS per_second
        FROM (
            SELECT m.metric, {group} AS grp, f.interval_s,
                   CASE WHEN m.had THEN 1 ELSE least(m.first, CASE WHEN f.home THEN f.registered END) END AS began
            FROM fleet AS f LEFT JOIN past AS p USING (device_key)
            CROSS JOIN LATERAL unnest({names}, ARRAY[{lists[0]}], ARRAY[{lists[1]}]) AS m (metric, first, had)
            WHERE m.first IS NOT NULL
               OR f.home AND f.interval_s IS NOT NULL AND (m.had OR NOT f.present AND p.device_key IS NULL)
        ) AS devices
        WHERE began IS NOT NULL
        GROUP BY metric, grp, began
        ) AS expected
        ORDER BY metric, grp, began
    """
    return statement


def _firsts(statement: Statement, question: Question, segment: Segment, keys: str | None) -> str:
    """The devices that have a row in a segment, and when each has its first value of each metric."""
    at, relation, conditions = scanned(statement, question.domain.name, segment, keys)
    is_raw = segment.relation == "readings"
    columns = ", ".join(
        f"min({at}) FILTER (WHERE r.{identifier(metric.name if is_raw else f'{metric.name}_count')} "
        f"{'IS NOT NULL' if is_raw else '> 0'}) AS first{position}"
        for position, metric in enumerate(question.metrics)
    )
    return f"SELECT r.device_key, {columns} FROM {relation} WHERE {conditions} GROUP BY r.device_key"
