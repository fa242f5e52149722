"""The nearest reading of each device before and after a range.

The relation of raw readings is cut into days, years of them, and a statement must not touch them all for the sake of a
few. What the planner is to leave out it must know when it plans: so ends of time are made here and given as they are.
An `instant - interval` in SQL, or an instant that a subquery finds, leaves nothing out.

Gauges and states last for a limited time, so their neighbours are looked for as far away, in raw rows, from the newest
day on in which the daily roll-up has a value. Counters gained what they gained however long they were silent, so their
neighbours may lie years away. Where all quarters of an hour have cells, these tell them, and raw rows are looked
through only where cells may be stale, and in the quarters that the ends of the range cut. Cells also outlive the
readings that they were made of.
"""

# ruff: noqa: S608 - identifiers are our own, values are parameters

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from telemetry.domains import Kind, Metric
from telemetry.query.aggregates import Family
from telemetry.query.instants import EARLIEST, LATEST
from telemetry.query.question import Question
from telemetry.query.scope import Scope
from telemetry.query.sql import Statement, identifier
from telemetry.spans import LONGEST_DAY, QUARTER, Span, floor, joined

REACH = timedelta(days=31)
"""How long a state or a gauge lasts where the question does not say it (`max_gap`); its neighbours around a range are
looked for as far away."""

EVER = LATEST - EARLIEST
"""How far the neighbours of a counter are looked for: what it gained was gained, however long it was silent."""

_TWO_DAYS = timedelta(days=2)
"""A day of cells is of whole hours, and where a zone is off by part of one, its last hour reaches beyond it."""

_LOOKS = 4
"""Stretches of time with late quarters on one side of a range that are looked through one by one."""

_MANY = 1000
"""Late quarters, weeks of them, that are not worth being told apart."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the roll-ups may not show around a range.

    Attributes:
        late_before, late_after: the late quarters of an hour within reach that begin before the range, and those that
            end after it; in order.
        has_swaps: whether the meter of a counter was ever swapped.
        cells_from: where cells of counters begin, if these tell of all readings that there are, or were; None where
            raw rows have to be looked through.
    """

    late_before: Sequence[datetime]
    late_after: Sequence[datetime]
    has_swaps: bool = False
    cells_from: datetime | None = None

    @classmethod
    def of(cls, question: Question, scope: Scope) -> Surroundings:
        """From a scope that has looked for late quarters up to the reach and a quarter around the range."""
        before = scope.late[: bisect_left(scope.late, question.start)]
        after = scope.late[bisect_right(scope.late, question.end - QUARTER) :]
        return cls(before, after, scope.has_swaps, _cells_from(question, scope))


def _cells_from(question: Question, scope: Scope) -> datetime | None:
    since, oldest = scope.counters_from, scope.kept_from or question.start - EVER
    return since if since is not None and since <= oldest else None


def reach(question: Question) -> timedelta:
    """How far around its range a question looks for readings."""
    if question.chosen(Family.CHANGE):
        return EVER
    return _lasting(question) if question.chosen(Family.TIME) else timedelta(0)


def _lasting(question: Question) -> timedelta:
    return max(REACH, question.max_gap or REACH)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Of one metric of a question.

    There may be more than the nearest: the steps between readings that lie beyond them are none of the range.

    Attributes:
        keys: placeholder of the keys of the devices; None for all.
    """

    question: Question
    metric: Metric
    around: Surroundings
    keys: str | None

    @property
    def reach(self) -> timedelta:
        """How far away they may be."""
        return EVER if self.metric.kind is Kind.COUNTER else _lasting(self.question)

    def needs(self, statement: Statement) -> Iterator[str]:
        """Expressions that `arms` refers to."""
        yield self._here(statement) if self._are_in_cells else self._bounds(statement)

    def arms(self, statement: Statement) -> Iterator[str]:
        """Queries of device, time and value."""
        if self._are_in_cells:
            yield from self._where_cells_do_not_tell(statement)
            yield from self._of_cells(statement)
        else:
            yield from self._within_bounds(statement)

    @property
    def _are_in_cells(self) -> bool:
        return self.metric.kind is Kind.COUNTER and self.around.cells_from is not None

    def _where_cells_do_not_tell(self, statement: Statement) -> Iterator[str]:
        start, end = self.question.start, self.question.end
        if (edge := _at_or_before(start)) < start:
            yield self._nearest(statement, "here", (edge, start), "DESC")
        if (edge := _at_or_after(end)) > end:
            yield self._nearest(statement, "here", (end, edge), "ASC")
        # Any device may have reported here, if late.
        for since, until in stretches(self.around.late_before):
            yield self._nearest(statement, "devices", (since, min(until, start)), "DESC")
        for since, until in stretches(self.around.late_after):
            yield self._nearest(statement, "devices", (max(since, end), until), "ASC")

    def _nearest(self, statement: Statement, devices: str, stretch: Span, order: str) -> str:
        column = f"r.{identifier(self.metric.name)}"
        since, until = (statement.add(each, "timestamptz") for each in stretch)
        return f"""
            SELECT d.device_key, p.* FROM {devices} AS d CROSS JOIN LATERAL (
                SELECT r.time, {column} FROM {self._relation("readings")} AS r
                WHERE r.device_key = d.device_key AND {column} IS NOT NULL AND r.time >= {since} AND r.time < {until}
                ORDER BY r.time {order} LIMIT 1
            ) AS p
            WHERE {self._chosen("d")}
        """

    def _of_cells(self, statement: Statement) -> Iterator[str]:
        """A cell that is stale tells a reading, too, and the one that it does not tell yet is found in raw rows."""
        edges = _at_or_before(self.question.start), _at_or_after(self.question.end)
        before, after = (statement.add(each, "timestamptz") for each in edges)
        since = statement.add(self.around.cells_from, "timestamptz")
        first_at, last_at = (f"r.{identifier(f'{self.metric.name}_{each}_at')}" for each in ("first", "last"))
        yield self._of_cell(
            statement,
            "last",
            f"r.bucket < {before} AND {first_at} < {before}",
            f"r.bucket < {before} AND r.bucket > day.first_at - interval '15 minutes' AND r.bucket >= {since}",
            "DESC",
        )
        nearly = statement.add(edges[1] - _TWO_DAYS, "timestamptz")
        yield self._of_cell(
            statement,
            "first",
            f"r.bucket > {nearly} AND {last_at} >= {after}",
            f"r.bucket >= {after} AND r.bucket <= day.last_at AND r.bucket >= {since}",
            "ASC",
        )

    def _of_cell(self, statement: Statement, end: str, of_day: str, of_quarter: str, order: str) -> str:
        """The first or last reading of the nearest quarter, which is looked for in the nearest day: a device that has
        other counters may have had cells for years.
        """
        name = self.metric.name
        first_at, last_at, at, value, broken = (
            f"r.{identifier(f'{name}_{part}')}" for part in ("first_at", "last_at", f"{end}_at", end, "broken")
        )
        return f"""
            SELECT d.device_key, c.at, CASE WHEN c.broken THEN b.value ELSE c.value END
            FROM here AS d
            CROSS JOIN LATERAL (
                SELECT {first_at} AS first_at, {last_at} AS last_at FROM {self._relation("counters_1d")} AS r
                WHERE r.device_key = d.device_key AND {of_day}
                ORDER BY r.bucket {order} LIMIT 1
            ) AS day
            CROSS JOIN LATERAL (
                SELECT {at} AS at, {value} AS value, {broken} AS broken FROM {self._relation("counters_15m")} AS r
                WHERE r.device_key = d.device_key AND {at} IS NOT NULL AND {of_quarter}
                ORDER BY r.bucket {order} LIMIT 1
            ) AS c
            LEFT JOIN counter_breaks AS b
              ON b.domain = {self._domain(statement)} AND b.metric = {statement.add(name, "text")}
             AND b.device_key = d.device_key AND b.time = c.at
        """

    def _here(self, statement: Statement) -> str:
        """`here`: the devices of the question; of all, those of the domain and those that cells show around the range,
        for most of the others never reported here.
        """
        seen = ""
        if self.keys is None:
            since = statement.add(self.question.start - REACH - _TWO_DAYS, "timestamptz")
            until = statement.add(self.question.end + REACH, "timestamptz")
            seen = f"""
                AND (d.domain = {self._domain(statement)} OR EXISTS (
                    SELECT FROM {self._relation("counters_1d")} AS r
                    WHERE r.device_key = d.device_key AND r.{identifier(f"{self.metric.name}_last_at")} IS NOT NULL
                      AND r.bucket > {since} AND r.bucket < {until}
                ))
            """
        return f"here AS MATERIALIZED (SELECT d.device_key FROM devices AS d WHERE {self._chosen('d')}{seen})"

    def _bounds(self, statement: Statement) -> str:
        """`bounds`: between which instants the neighbours of the range may lie, by device."""
        question, around = self.question, self.around
        start, end = question.start, question.end

        def at(instant: datetime | None) -> str:
            return statement.add(instant, "timestamptz")

        late_before = at(around.late_before[0] if around.late_before else None)
        late_after = at(end + self.reach if around.late_after else None)
        day = statement.add(LONGEST_DAY, "interval")
        days, has_value = self._relation("1d"), f"{identifier(f'{self.metric.name}_count')} > 0"
        # The newest day that is wholly before the range and has a value bounds the search; without one, the values may
        # lie in the day that the range begins in.
        far_before = far_after = "NULL::timestamptz"
        if self.reach > REACH:
            far_before = self._far_day(statement, f"bucket <= {at(start - REACH - LONGEST_DAY)}", "DESC")
        if self.reach > REACH and end + REACH <= question.now:
            far_after = self._far_day(statement, f"bucket >= {at(end + REACH)}", "ASC")
        day_before, day_around = at(start - LONGEST_DAY), at(end - LONGEST_DAY)
        return f"""
            days AS MATERIALIZED (
                SELECT device_key,
                       max(bucket) FILTER (WHERE bucket <= {day_before}) AS before,
                       bool_or(bucket BETWEEN {day_before} AND {at(start)}) AS beginning,
                       max(bucket) FILTER (WHERE bucket > {day_around}) AS after
                FROM {days}
                WHERE bucket > {at(start - REACH - LONGEST_DAY)} AND bucket < {at(end + REACH)}
                  AND (bucket <= {at(start)} OR bucket > {day_around})
                  AND {has_value}{"" if self.keys is None else f" AND {self._chosen(None)}"}
                GROUP BY device_key
            ), bounds AS MATERIALIZED (
                SELECT * FROM (
                    SELECT devices.device_key,
                           coalesce(
                               before, least(CASE WHEN beginning THEN {day_before} END, {late_before}, {far_before})
                           ) AS earliest,
                           coalesce(
                               {late_after},
                               greatest(after, CASE WHEN after > {at(end)} THEN NULL ELSE {far_after} END) + {day}
                           ) AS latest
                    FROM devices LEFT JOIN days ON days.device_key = devices.device_key
                    WHERE {self._chosen("devices")}
                ) AS every
                -- Most devices of other domains have neither; any of them may have reported here, if late.
                WHERE earliest IS NOT NULL OR latest IS NOT NULL
            )
        """

    def _far_day(self, statement: Statement, when: str, order: str) -> str:
        """The nearest day of a device that is further away than `REACH`.

        Of all devices, it is looked up only for those of the domain and those that were seen here: most others never
        were.
        """
        here = ""
        if self.keys is None:
            here = f" AND (devices.domain = {self._domain(statement)} OR days.device_key IS NOT NULL)"
        return f"""(
            SELECT bucket FROM {self._relation("1d")} AS r
            WHERE r.device_key = devices.device_key AND {when}
              AND {identifier(f"{self.metric.name}_count")} > 0{here}
            ORDER BY bucket {order} LIMIT 1
        )"""

    def _within_bounds(self, statement: Statement) -> Iterator[str]:
        start, end, reach = self.question.start, self.question.end, self.reach
        for bound, (since, until), is_within, order in (
            ("earliest", (start - reach, start), "r.time >= n.earliest", "DESC"),
            ("latest", (end, end + reach), "r.time < n.latest", "ASC"),
        ):
            column = f"r.{identifier(self.metric.name)}"
            yield f"""
                SELECT n.device_key, p.* FROM bounds AS n CROSS JOIN LATERAL (
                    SELECT r.time, {column} FROM {self._relation("readings")} AS r
                    WHERE r.device_key = n.device_key AND {column} IS NOT NULL AND {is_within}
                      AND r.time >= {statement.add(since, "timestamptz")}
                      AND r.time < {statement.add(until, "timestamptz")}
                    ORDER BY r.time {order} LIMIT 1
                ) AS p
                WHERE n.{bound} IS NOT NULL
            """

    def _chosen(self, relation: str | None) -> str:
        column = "device_key" if relation is None else f"{relation}.device_key"
        return "true" if self.keys is None else f"{column} = ANY ({self.keys})"

    def _relation(self, name: str) -> str:
        return identifier(f"{self.question.domain.name}_{name}")

    def _domain(self, statement: Statement) -> str:
        return statement.add(self.question.domain.name, "text")


def stretches(quarters: Sequence[datetime]) -> list[Span]:
    """Few stretches that hold the quarters; within a day, it does not matter how much of it is looked through."""
    if len(quarters) > _MANY:
        return [(quarters[0], quarters[-1] + QUARTER)]
    gap = timedelta(days=1)
    found = joined(((each, each + QUARTER) for each in quarters), gap)
    while len(found) > _LOOKS:
        gap *= 2
        found = joined(found, gap)
    return found


def _at_or_before(instant: datetime) -> datetime:
    return floor(instant, QUARTER)


def _at_or_after(instant: datetime) -> datetime:
    start = floor(instant, QUARTER)
    return start if start == instant else start + QUARTER
