"""How many values a bucket could have had: from the interval of each device and the time that lies in the bucket."""

# ruff: noqa: S608 - identifiers are our own, values are parameters

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from telemetry.query.database import Connection
from telemetry.query.edges import SECOND, Edges
from telemetry.query.instants import microseconds
from telemetry.query.plan import Plan
from telemetry.query.question import By, Question
from telemetry.query.size import aside
from telemetry.query.sql import Statement, identifier, scanned

Group = str | None
"""A device's id or the name of a zone; None for devices without a zone, and for all devices together."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What was to be expected.

    Attributes:
        seconds: of each bucket, within the range and before now.
        per_second: values by metric and group; None where a device's interval is not known. Empty where each row brings
            the interval of its device.
    """

    seconds: Sequence[float]
    per_second: Mapping[tuple[str, Group], float | None]

    def coverage(self, bucket: int, metric: str, group: Group, interval_s: float | None, samples: int) -> float | None:
        """The share of the expected values that are there, 0 to 1; None where it cannot be known."""
        return self.share(self.seconds[bucket - 1], metric, group, interval_s, samples)

    def share(self, seconds: float, metric: str, group: Group, interval_s: float | None, samples: int) -> float | None:
        """The same for a bucket that has so many seconds."""
        per_second = 1 / interval_s if interval_s else self.per_second.get((metric, group))
        values = (per_second or 0.0) * seconds
        return min(1.0, round(samples / values, 4)) if values else None


async def find_expected(
    connection: Connection, plan: Plan, edges: Edges, device_keys: Sequence[int] | None
) -> Expected:
    """What was to be expected in each bucket.

    Of a group, those devices count that have a value of the metric anywhere in the range, in every bucket of it; so
    another range may expect others. Finding them takes a look at
    the rows of its own, so it is done for questions that ask for it.
    """
    question = plan.question
    seconds = await aside(partial(_seconds, question, edges), len(edges))
    if question.by is By.DEVICE or not question.coverage:
        return Expected(seconds, {})
    statement = _fleets_statement(plan, device_keys)
    rows = await connection.fetch(statement.text, *statement.values)
    return Expected(seconds, {(row["metric"], row["grp"]): row["per_second"] for row in rows})


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
    """Per metric and group: values per second of all devices that have a value in the range; NULL if one is unknown."""
    statement, question = Statement(), plan.question
    keys = None if device_keys is None else statement.add(list(device_keys), "int[]")
    arms = []
    for segment in plan.segments:
        _, relation, conditions = scanned(statement, question.domain.name, segment, keys)
        columns = ", ".join(
            f"count(r.{identifier(metric.name)}) AS n{position}"
            if segment.relation == "readings"
            else f"sum(r.{identifier(f'{metric.name}_count')})::bigint AS n{position}"
            for position, metric in enumerate(question.metrics)
        )
        arms.append(f"SELECT r.device_key, {columns} FROM {relation} WHERE {conditions} GROUP BY 1")
    names = statement.add([metric.name for metric in question.metrics], "text[]")
    counts = ", ".join(f"sum(n{position})" for position in range(len(question.metrics)))
    group = "r.zone" if question.by is By.ZONE else "NULL::text"
    statement.text = f"""
        SELECT metric, {group} AS grp,
               CASE WHEN bool_and(interval_s IS NOT NULL) THEN sum(1 / interval_s) END AS per_second
        FROM (
            SELECT device_key, unnest({names}) AS metric, unnest(ARRAY[{counts}]) AS n
            FROM ({" UNION ALL ".join(arms)}) AS parts
            GROUP BY device_key
        ) AS present JOIN devices AS r USING (device_key)
        WHERE n > 0
        GROUP BY 1, 2
    """
    return statement
