"""The SQL of aggregates that look at a device's readings one after the other: counters, and values weighted by time.

From one reading to the next is a step. A step that crosses bucket edges is cut there, so the buckets of a range add up
to the range, and the ranges of a year to the year:
- a counter's increase is spread evenly over its step;
- a gauge moves on a straight line from one reading to the next;
- a state holds until the next reading, at the latest until now.
The steps into and out of the range are taken in: the reading before it and the one after it are looked for up to
`REACH` away. They are found by the daily roll-up, and in raw rows alone where it may not show them yet.

What happens when a counter falls (v0 to v) depends on these two readings alone, so that every range tells the same:
by at most 5 % it is a glitch and the fall counts as it is, negative, for the next step makes up for it; otherwise, if
v0 was so near to 2^32 (or a thousandth of it, Wh shown as kWh) or to a power of ten from 10^4 on that the way over it
is at most 1 % of it, the register rolled over; otherwise the counter was reset, and went on from zero, or, if so asked,
with v.
"""

# ruff: noqa: S608 - identifiers are our own, values are parameters

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from telemetry.domains import Kind, Metric
from telemetry.query.aggregates import Aggregate, Combine, Family
from telemetry.query.question import Question, Reset
from telemetry.query.sql import Statement, grouping, identifier, ordered

REACH = timedelta(days=31)
GLITCH = 0.05
NEAR = 0.01
MODULI = tuple(sorted([*(10.0**digits for digits in range(4, 13)), 2.0**32, 2.0**32 / 1000]))
QUALITIES = ("measured", "interpolated", "adjusted")
"""Of a counter's increase: from readings on the bucket's very edges; cut at an edge; with a fall that was explained."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the daily roll-up may not show around a range.

    Attributes:
        late_before: the first late quarter of an hour within `REACH` before it.
        late_after: whether there is one within `REACH` after it.
    """

    late_before: datetime | None
    late_after: bool

    @classmethod
    def of(cls, question: Question, late: Sequence[datetime]) -> Surroundings:
        """From the late quarters found up to `REACH` and a quarter around the range."""
        before = min((quarter for quarter in late if quarter < question.start), default=None)
        return cls(before, any(quarter > question.end - timedelta(minutes=15) for quarter in late))


def steps_statement(
    question: Question,
    metric: Metric,
    edges: Sequence[datetime],
    around: Surroundings,
    device_keys: Sequence[int] | None,
    limit: int,
) -> Statement:
    """The aggregates of one metric that belong to the families `change` and `time`; see `sql.ordered` for the form.

    Of a counter: the aggregates, then the quality as a position in `QUALITIES`. Of a gauge: the aggregates. Of a state:
    seconds by word, and devices' shares by word added up, as JSON text.
    """
    statement = Statement()
    # A bucket that the range cuts is asked about as far as the range goes.
    clipped = [question.start, *edges[1:-1], question.end]
    placed = statement.add(clipped, "timestamptz[]")
    points = _points(statement, question, metric, around, device_keys)
    aggregates = question.chosen(Family.CHANGE, Family.TIME)[metric.name]
    match metric.kind:
        case Kind.COUNTER:
            steps = _changes(question.reset)
            amount = "amount * seconds / whole"
            quality = "greatest(quality, CASE WHEN seconds < whole AND amount <> 0 THEN 1 ELSE 0 END) AS quality"
            piece = f"{amount} AS amount, seconds, {quality}"
        case Kind.GAUGE:
            steps = _lines(statement, question)
            piece = "seconds * (v0 + (v - v0) * (waited + seconds / 2) / whole) AS amount, seconds"
        case Kind.STATE:
            steps = _holds(statement, question)
            piece = "v::text AS word, seconds"
    combined = _combined(question, metric, aggregates)
    combined = f"WITH {points}, {_pieces(steps, piece, placed, len(clipped) - 1)} {combined}"
    return ordered(statement, question.by, combined, _columns(metric, aggregates), limit)


def _points(
    statement: Statement,
    question: Question,
    metric: Metric,
    around: Surroundings,
    device_keys: Sequence[int] | None,
) -> str:
    """`points`: device, time and value of the readings in the range and of the ones next to it."""
    start, end = statement.add(question.start, "timestamptz"), statement.add(question.end, "timestamptz")
    reach = statement.add(REACH, "interval")
    late_before = statement.add(around.late_before, "timestamptz")
    late_after = statement.add(around.late_after, "boolean")
    keys = "" if device_keys is None else f" AND device_key = ANY ({statement.add(list(device_keys), 'int[]')})"
    readings, column = identifier(f"{question.domain.name}_readings"), f"r.{identifier(metric.name)}"
    # A day of the roll-up is at most 25 hours long. The newest one that is wholly before the range and has a value
    # bounds the search; without one, the values may lie in the day that the range begins in.
    return f"""
        days AS MATERIALIZED (
            SELECT device_key,
                   max(bucket) FILTER (WHERE bucket <= {start} - interval '25 hours') AS before,
                   bool_or(bucket BETWEEN {start} - interval '25 hours' AND {start}) AS beginning,
                   max(bucket) FILTER (WHERE bucket > {end} - interval '25 hours') AS after
            FROM {identifier(f"{question.domain.name}_1d")}
            WHERE bucket > {start} - {reach} - interval '25 hours' AND bucket < {end} + {reach}
              AND (bucket <= {start} OR bucket > {end} - interval '25 hours')
              AND {identifier(f"{metric.name}_count")} > 0{keys}
            GROUP BY device_key
        ), bounds AS MATERIALIZED (
            SELECT device_key,
                   coalesce(before, least(CASE WHEN beginning THEN {start} - interval '25 hours' END, {late_before}))
                       AS earliest,
                   CASE WHEN {late_after} THEN {end} + {reach} ELSE after + interval '25 hours' END AS latest
            FROM devices LEFT JOIN days USING (device_key)
            WHERE true{keys}
        ), points AS (
            SELECT r.device_key, r.time, {column} AS v FROM {readings} AS r
            WHERE r.time >= {start} AND r.time < {end} AND {column} IS NOT NULL{keys}
            UNION ALL
            SELECT n.device_key, p.* FROM bounds AS n CROSS JOIN LATERAL (
                SELECT r.time, {column} FROM {readings} AS r
                WHERE r.device_key = n.device_key AND {column} IS NOT NULL
                  AND r.time >= n.earliest AND r.time >= {start} - {reach} AND r.time < {start}
                ORDER BY r.time DESC LIMIT 1
            ) AS p
            UNION ALL
            SELECT n.device_key, p.* FROM bounds AS n CROSS JOIN LATERAL (
                SELECT r.time, {column} FROM {readings} AS r
                WHERE r.device_key = n.device_key AND {column} IS NOT NULL AND r.time >= {end}
                  AND r.time < n.latest AND r.time < {end} + {reach}
                ORDER BY r.time LIMIT 1
            ) AS p
        )
    """


def _changes(reset: Reset) -> str:
    over = " ".join(
        f"WHEN v0 < {modulus!r} AND {modulus!r} - v0 + v <= {modulus * NEAR!r} THEN {modulus!r} - v0 + v"
        for modulus in MODULI
    )
    after_reset = "v" if reset is Reset.ZERO else "0"
    return f"""
        SELECT device_key, t0, t1, whole, CASE WHEN v < v0 THEN 2 ELSE 0 END AS quality,
               CASE WHEN v >= v0 * {1 - GLITCH} THEN v - v0 {over} ELSE {after_reset} END AS amount
        FROM ({_PAIRS}) AS s
        WHERE t0 IS NOT NULL
    """


_PAIRS = """
    SELECT device_key, time AS t1, v, lag(time) OVER w AS t0, lag(v) OVER w AS v0,
           date_part('epoch', time - lag(time) OVER w) AS whole
    FROM points
    WINDOW w AS (PARTITION BY device_key ORDER BY time)
"""


def _lines(statement: Statement, question: Question) -> str:
    gap = statement.add(question.max_gap or REACH, "interval")
    return f"SELECT * FROM ({_PAIRS}) AS s WHERE t1 - t0 <= {gap}"


def _holds(statement: Statement, question: Question) -> str:
    gap = statement.add(question.max_gap or REACH, "interval")
    until = statement.add(min(question.end, question.now), "timestamptz")
    return f"""
        SELECT * FROM (
            SELECT device_key, time AS t0, v, 0 AS whole,
                   least(coalesce(lead(time) OVER w, {until}), {until}, time + {gap}) AS t1
            FROM points
            WINDOW w AS (PARTITION BY device_key ORDER BY time)
        ) AS s
        WHERE t1 > t0
    """


def _pieces(steps: str, piece: str, edges: str, buckets: int) -> str:
    """`pieces`: the steps cut at the bucket edges; `waited` and `seconds` are the part before a piece and the piece."""
    return f"""
        pieces AS (
            SELECT device_key, bucket, {piece}
            FROM (
                SELECT *, date_part('epoch', greatest(t0, ({edges})[bucket]) - t0) AS waited,
                       date_part('epoch', least(t1, ({edges})[bucket + 1]) - greatest(t0, ({edges})[bucket])) AS seconds
                FROM (
                    SELECT *, generate_series(
                        greatest(width_bucket(t0, {edges}), 1),
                        least(width_bucket(t1 - interval '1 microsecond', {edges}), {buckets})
                    ) AS bucket
                    FROM ({steps}) AS whole_steps
                ) AS placed
            ) AS cut
        )
    """


def _combined(question: Question, metric: Metric, aggregates: Sequence[Aggregate]) -> str:
    group, join = grouping(question.by)
    if metric.kind is Kind.STATE:
        return f"""
            SELECT bucket, grp, json_object_agg(word, seconds)::text AS seconds,
                   json_object_agg(word, share)::text AS share
            FROM (
                SELECT r.bucket, {group} AS grp, r.word, sum(r.seconds) AS seconds, sum(r.seconds / r.known) AS share
                FROM (
                    SELECT bucket, device_key, word, sum(seconds) AS seconds,
                           sum(sum(seconds)) OVER (PARTITION BY bucket, device_key) AS known
                    FROM pieces GROUP BY bucket, device_key, word
                ) AS r{join}
                GROUP BY 1, 2, 3
            ) AS words
            GROUP BY bucket, grp
        """
    quality = ", max(quality) AS quality" if metric.kind is Kind.COUNTER else ""
    finals = [f"{final} AS v{position}" for position, final in enumerate(_finals(aggregates))]
    return f"""
        SELECT r.bucket, {group} AS grp, {", ".join(finals)}{quality}
        FROM (
            SELECT bucket, device_key, sum(amount) AS amount, sum(seconds) AS seconds{quality}
            FROM pieces GROUP BY bucket, device_key
        ) AS r{join}
        GROUP BY 1, 2
    """


def _finals(aggregates: Sequence[Aggregate]) -> Iterator[str]:
    of_device = {
        "increase": "r.amount",
        "rate": "r.amount * 3600 / r.seconds",
        "time_avg": "r.amount / r.seconds",
        "integral": "r.amount / 3600",
    }
    for aggregate in aggregates:
        yield f"{'sum' if aggregate.combine is Combine.SUM else 'avg'}({of_device[aggregate.name]})"


def _columns(metric: Metric, aggregates: Sequence[Aggregate]) -> list[str]:
    if metric.kind is Kind.STATE:
        return ["seconds", "share"]
    columns = [f"v{position}" for position in range(len(aggregates))]
    return [*columns, "quality"] if metric.kind is Kind.COUNTER else columns
