"""The readings from which steps are made: those in the range, and the nearest one on either side of it (`neighbours`).

Of a counter, a cell of its roll-ups stands for all of its readings by its first and its last, because the counter rose
in between. A cell in which it broke (it fell, or its meter was swapped) is looked into: a day or an hour by its
quarters, a quarter by all of its readings, which are kept for that.
"""

# ruff: noqa: S608 - identifiers are our own, values are parameters

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from telemetry.domains import Metric
from telemetry.query.neighbours import Neighbours, Surroundings
from telemetry.query.plan import Segment
from telemetry.query.question import Question
from telemetry.query.sql import Statement, identifier, scanned

_ENDS = ("first_at", "first", "last_at", "last")


@dataclass(frozen=True, slots=True)
class History:
    """One metric of a question, and where its readings are read from.

    Attributes:
        segments: of the range.
        device_keys: only these devices; None for all.
    """

    question: Question
    metric: Metric
    segments: Sequence[Segment]
    around: Surroundings
    device_keys: Sequence[int] | None

    def expressions(self, statement: Statement) -> str:
        """`points`: device, time and value (`v`) of readings; `swaps`, if there are any; and what these need."""
        keys = None if self.device_keys is None else statement.add(list(self.device_keys), "int[]")
        rolled_up = [each for each in self.segments if each.relation != "readings"]
        arms = [self._raw(statement, each, keys) for each in self.segments if each.relation == "readings"]
        neighbours = Neighbours(self.question, self.metric, self.around, keys)
        found = [*neighbours.needs(statement)]
        if rolled_up:
            found.append(self._cells(statement, rolled_up, keys))
            arms += self._of_cells(statement)
        arms += neighbours.arms(statement)
        found.append(f"points (device_key, time, v) AS ({' UNION ALL '.join(arms)})")
        if self.around.has_swaps:
            found.append(self._swaps(statement, neighbours))
        return ", ".join(found)

    def _relation(self, name: str) -> str:
        return identifier(f"{self.question.domain.name}_{name}")

    def _ends(self) -> list[str]:
        return [f"r.{identifier(f'{self.metric.name}_{end}')}" for end in _ENDS]

    def _raw(self, statement: Statement, segment: Segment, keys: str | None) -> str:
        at, relation, conditions = scanned(statement, self.question.domain.name, segment, keys)
        column = f"r.{identifier(self.metric.name)}"
        return f"SELECT r.device_key, {at}, {column} FROM {relation} WHERE {conditions} AND {column} IS NOT NULL"

    def _cells(self, statement: Statement, segments: Sequence[Segment], keys: str | None) -> str:
        """`risen`: cells in which the counter did not break; `broken`: quarters in which it did."""
        ends = self._ends()
        named = ", ".join(f"{column} AS {end}" for column, end in zip(ends, _ENDS, strict=True))
        broken = f"r.{identifier(f'{self.metric.name}_broken')} AS broken"
        arms = []
        for segment in segments:
            _, relation, conditions = scanned(statement, self.question.domain.name, segment, keys)
            is_quarter = "true" if segment.relation == "counters_15m" else "false"
            arms.append(
                f"SELECT r.device_key, {broken}, {named}, {is_quarter} AS is_quarter FROM {relation} "
                f"WHERE {conditions} AND {ends[0]} IS NOT NULL"
            )
        # Without OFFSET, the planner might read every quarter of the range for the sake of a few.
        return f"""
            cells AS MATERIALIZED ({" UNION ALL ".join(arms)}),
            quarters AS MATERIALIZED (
                SELECT c.device_key, q.* FROM cells AS c CROSS JOIN LATERAL (
                    SELECT {broken}, {named} FROM {self._relation("counters_15m")} AS r
                    WHERE r.device_key = c.device_key AND {ends[0]} IS NOT NULL
                      AND r.bucket > c.first_at - interval '15 minutes' AND r.bucket <= c.last_at
                    OFFSET 0
                ) AS q
                WHERE c.broken AND NOT c.is_quarter
            ),
            risen AS (
                SELECT device_key, first_at, first, last_at, last FROM cells WHERE NOT broken
                UNION ALL
                SELECT device_key, first_at, first, last_at, last FROM quarters WHERE NOT broken
            ),
            broken AS (
                SELECT device_key, first_at, last_at FROM cells WHERE broken AND is_quarter
                UNION ALL
                SELECT device_key, first_at, last_at FROM quarters WHERE broken
            )
        """

    def _of_cells(self, statement: Statement) -> list[str]:
        start, end = self._range(statement)
        return [
            "SELECT device_key, first_at, first FROM risen",
            "SELECT device_key, last_at, last FROM risen WHERE last_at > first_at",
            f"""
            SELECT r.device_key, r.time, r.value FROM broken AS b JOIN counter_breaks AS r USING (device_key)
            WHERE r.domain = {self._domain(statement)}
              AND r.metric = {statement.add(self.metric.name, "text")}
              AND r.time >= {start} AND r.time < {end} AND r.time BETWEEN b.first_at AND b.last_at
            """,
        ]

    def _swaps(self, statement: Statement, neighbours: Neighbours) -> str:
        since = statement.add(self.question.start - neighbours.reach, "timestamptz")
        until = statement.add(self.question.end + neighbours.reach, "timestamptz")
        chosen = "" if neighbours.keys is None else f" AND device_key = ANY ({neighbours.keys})"
        return f"""
            swaps AS (
                SELECT device_key, time, start_index, final_index FROM meter_swaps
                WHERE domain = {self._domain(statement)} AND metric = {statement.add(self.metric.name, "text")}
                  AND time > {since} AND time < {until}{chosen}
            )
        """

    def _domain(self, statement: Statement) -> str:
        return statement.add(self.question.domain.name, "text")

    def _range(self, statement: Statement) -> tuple[str, str]:
        return statement.add(self.question.start, "timestamptz"), statement.add(self.question.end, "timestamptz")
