"""The readings from which steps are made: those in the range, and the nearest one on either side of it.

Of a counter, a cell of its roll-ups stands for all of its readings by its first and its last, because the counter rose
in between. A cell in which it broke (it fell, or its meter was swapped) is looked into: a day or an hour by its
quarters, a quarter by all of its readings, which are kept for that. So cells also tell the nearest readings around a
range where these are not kept any more.
"""

# ruff: noqa: S608 - identifiers are our own, values are parameters

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from telemetry.domains import Kind, Metric
from telemetry.query.aggregates import Family
from telemetry.query.instants import EARLIEST, LATEST
from telemetry.query.plan import Segment
from telemetry.query.question import Question
from telemetry.query.scope import Scope
from telemetry.query.sql import Statement, identifier, scanned
from telemetry.spans import QUARTER, Span

REACH = timedelta(days=31)
"""How long a state or a gauge lasts where the question does not say it (`max_gap`); its neighbours around a range are
looked for as far away."""

EVER = LATEST - EARLIEST
"""How far the neighbours of a counter are looked for: what it gained was gained, however long it was silent."""

_DAY = timedelta(hours=25)
"""A day of the roll-up is at most that long."""

_ENDS = ("first_at", "first", "last_at", "last")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the daily roll-up and the readings may not show around a range.

    Attributes:
        late_before: the first late quarter of an hour within reach before it.
        late_after: whether there is one within reach after it.
        has_swaps: whether the meter of a counter was ever swapped.
        gone: where cells of counters stand for readings that are not kept, if there are such.
    """

    late_before: datetime | None
    late_after: bool
    has_swaps: bool = False
    gone: Span | None = None

    @classmethod
    def of(cls, question: Question, scope: Scope) -> Surroundings:
        """From a scope that has looked for late quarters up to the reach and a quarter around the range."""
        before = min((quarter for quarter in scope.late if quarter < question.start), default=None)
        after = any(quarter > question.end - QUARTER for quarter in scope.late)
        return cls(before, after, scope.has_swaps, _gone(scope))


def reach(question: Question) -> timedelta:
    """How far around its range a question looks for readings."""
    if question.chosen(Family.CHANGE):
        return EVER
    return _lasting(question) if question.chosen(Family.TIME) else timedelta(0)


def _lasting(question: Question) -> timedelta:
    return max(REACH, question.max_gap or REACH)


def _gone(scope: Scope) -> Span | None:
    since, until = scope.counters_from, scope.kept_from
    return None if since is None or until is None or until <= since else (since, until)


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
        found = [self._bounds(statement, keys)]
        if rolled_up:
            found.append(self._cells(statement, rolled_up, keys))
            arms += self._of_cells(statement)
        arms += self._neighbours(statement)
        if self.metric.kind is Kind.COUNTER and self.around.gone is not None:
            arms += self._neighbours_of_cells(statement, self.around.gone)
        found.append(f"points (device_key, time, v) AS ({' UNION ALL '.join(arms)})")
        if self.around.has_swaps:
            found.append(self._swaps(statement, keys))
        return ", ".join(found)

    @property
    def _reach(self) -> timedelta:
        return EVER if self.metric.kind is Kind.COUNTER else _lasting(self.question)

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

    def _bounds(self, statement: Statement, keys: str | None) -> str:
        """`bounds`: between which instants the neighbours of the range may lie, by device."""
        start, end = self._range(statement)
        near, day = statement.add(REACH, "interval"), statement.add(_DAY, "interval")
        late_before = statement.add(self.around.late_before, "timestamptz")
        late_after = statement.add(self.around.late_after, "boolean")
        chosen = "" if keys is None else f" AND device_key = ANY ({keys})"
        days, has_value = self._relation("1d"), f"{identifier(f'{self.metric.name}_count')} > 0"
        # The newest day that is wholly before the range and has a value bounds the search; without one, the values may
        # lie in the day that the range begins in.
        far_before = far_after = "NULL::timestamptz"
        if self._reach > REACH:
            far_before = self._far_day(statement, keys, f"bucket <= {start} - {near} - {day}", "DESC")
        if self._reach > REACH and self.question.end + REACH <= self.question.now:
            far_after = self._far_day(statement, keys, f"bucket >= {end} + {near}", "ASC")
        return f"""
            days AS MATERIALIZED (
                SELECT device_key,
                       max(bucket) FILTER (WHERE bucket <= {start} - {day}) AS before,
                       bool_or(bucket BETWEEN {start} - {day} AND {start}) AS beginning,
                       max(bucket) FILTER (WHERE bucket > {end} - {day}) AS after
                FROM {days}
                WHERE bucket > {start} - {near} - {day} AND bucket < {end} + {near}
                  AND (bucket <= {start} OR bucket > {end} - {day})
                  AND {has_value}{chosen}
                GROUP BY device_key
            ), bounds AS MATERIALIZED (
                SELECT * FROM (
                    SELECT devices.device_key,
                           coalesce(
                               before, least(CASE WHEN beginning THEN {start} - {day} END, {late_before}, {far_before})
                           ) AS earliest,
                           CASE WHEN {late_after} THEN {end} + {statement.add(self._reach, "interval")}
                                ELSE greatest(after, CASE WHEN after > {end} THEN NULL ELSE {far_after} END) + {day}
                           END AS latest
                    FROM devices LEFT JOIN days ON days.device_key = devices.device_key
                    WHERE {"true" if keys is None else f"devices.device_key = ANY ({keys})"}
                ) AS every
                -- Most devices of other domains have neither; any of them may have reported here, if late.
                WHERE earliest IS NOT NULL OR latest IS NOT NULL
            )
        """

    def _far_day(self, statement: Statement, keys: str | None, when: str, order: str) -> str:
        """The nearest day of a device that is further away than `REACH`.

        Of all devices, it is looked up only for those of the domain and those that were seen here: most others never
        were.
        """
        here = ""
        if keys is None:
            here = f" AND (devices.domain = {self._domain(statement)} OR days.device_key IS NOT NULL)"
        return f"""(
            SELECT bucket FROM {self._relation("1d")} AS r
            WHERE r.device_key = devices.device_key AND {when}
              AND {identifier(f"{self.metric.name}_count")} > 0{here}
            ORDER BY bucket {order} LIMIT 1
        )"""

    def _neighbours(self, statement: Statement) -> list[str]:
        start, end = self._range(statement)
        reach = statement.add(self._reach, "interval")
        readings, column = self._relation("readings"), f"r.{identifier(self.metric.name)}"
        return [
            f"""
            SELECT n.device_key, p.* FROM bounds AS n CROSS JOIN LATERAL (
                SELECT r.time, {column} FROM {readings} AS r
                WHERE r.device_key = n.device_key AND {column} IS NOT NULL
                  AND r.time >= n.earliest AND r.time >= {start} - {reach} AND r.time < {start}
                ORDER BY r.time DESC LIMIT 1
            ) AS p
            WHERE n.earliest IS NOT NULL
            """,
            f"""
            SELECT n.device_key, p.* FROM bounds AS n CROSS JOIN LATERAL (
                SELECT r.time, {column} FROM {readings} AS r
                WHERE r.device_key = n.device_key AND {column} IS NOT NULL AND r.time >= {end}
                  AND r.time < n.latest AND r.time < {end} + {reach}
                ORDER BY r.time LIMIT 1
            ) AS p
            WHERE n.latest IS NOT NULL
            """,
        ]

    def _neighbours_of_cells(self, statement: Statement, gone: Span) -> Iterator[str]:
        """Neighbours whose readings are gone. Where there is a nearer one, the step between is none of the range."""
        question, reach = self.question, statement.add(self._reach, "interval")
        cells = self._relation("counters_15m")
        ends = [("last", gone[0], min(question.start, gone[1]), "DESC")]
        if question.end < gone[1]:
            ends.append(("first", question.end, gone[1], "ASC"))
        for end, since, until, order in ends:
            at, value, broken = (identifier(f"{self.metric.name}_{part}") for part in (f"{end}_at", end, "broken"))
            yield f"""
                SELECT n.device_key, c.at, CASE WHEN c.broken THEN b.value ELSE c.value END
                FROM bounds AS n
                CROSS JOIN LATERAL (
                    SELECT r.{at} AS at, r.{value} AS value, r.{broken} AS broken FROM {cells} AS r
                    WHERE r.device_key = n.device_key AND r.{at} IS NOT NULL
                      AND r.bucket >= {statement.add(since, "timestamptz")}
                      AND r.bucket < {statement.add(until, "timestamptz")}
                    ORDER BY r.bucket {order} LIMIT 1
                ) AS c
                LEFT JOIN counter_breaks AS b
                  ON b.domain = {self._domain(statement)} AND b.metric = {statement.add(self.metric.name, "text")}
                 AND b.device_key = n.device_key AND b.time = c.at
                WHERE c.at >= {statement.add(question.start, "timestamptz")} - {reach}
                  AND c.at < {statement.add(question.end, "timestamptz")} + {reach}
            """

    def _swaps(self, statement: Statement, keys: str | None) -> str:
        start, end = self._range(statement)
        reach = statement.add(self._reach, "interval")
        chosen = "" if keys is None else f" AND device_key = ANY ({keys})"
        return f"""
            swaps AS (
                SELECT device_key, time, start_index, final_index FROM meter_swaps
                WHERE domain = {self._domain(statement)} AND metric = {statement.add(self.metric.name, "text")}
                  AND time > {start} - {reach} AND time < {end} + {reach}{chosen}
            )
        """

    def _domain(self, statement: Statement) -> str:
        return statement.add(self.question.domain.name, "text")

    def _range(self, statement: Statement) -> tuple[str, str]:
        return statement.add(self.question.start, "timestamptz"), statement.add(self.question.end, "timestamptz")
