"""The SQL of aggregates that look at a device's readings one after the other: counters, and values weighted by time.

From one reading to the next is a step. A step that crosses bucket edges is cut there, so the buckets of a range add up
to the range, and the ranges of a year to the year:
- a counter's increase is spread evenly over its step;
- a gauge moves on a straight line from one reading to the next;
- a state holds until the next reading, at the latest until now.
The steps into and out of the range are taken in: the reading before it and the one after it are looked for, those of
gauges and states as far away as they may last, those of counters wherever they are. They are found by the daily
roll-up, and in raw rows alone where it may not show them yet. So a bucket's value does not depend on the range that was
asked, and a long range may be answered stretch by stretch.

What happens when a counter falls (v0 to v) depends on these two readings alone, so that every range tells the same:
by at most the share that the metric tolerates it is a glitch and the fall counts as it is, negative, for the next step
makes up for it; otherwise, if v0 was so near to 2^32 (or a thousandth of it, Wh shown as kWh) or to a power of ten from
10^4 on that the way over it is at most 1 % of it, the register rolled over; otherwise the counter was reset, and went
on from zero, or, if so asked, with v.

A meter that was swapped makes two steps of one: up to the swap, which the old meter ends with its final index (or, if
that is not known, with its last reading), and from it on, which the new one begins with its start index. A reading at
the very instant is the new one's; what that one had counted by then is counted in the step before, which takes time.
"""

# ruff: noqa: S608 - identifiers are our own, values are parameters

from __future__ import annotations

from collections.abc import Iterator, Sequence

from telemetry.domains import Kind, Metric
from telemetry.query.aggregates import Aggregate, Combine, Family
from telemetry.query.edges import Edges, single
from telemetry.query.history import History
from telemetry.query.neighbours import REACH
from telemetry.query.question import Question, Reset
from telemetry.query.sql import Statement, grouping, ordered

NEAR = 0.01
MODULI = tuple(sorted([*(10.0**digits for digits in range(4, 13)), 2.0**32, 2.0**32 / 1000]))
QUALITIES = ("measured", "interpolated", "adjusted")
"""Of a counter's increase: from readings on the bucket's very edges; cut at an edge; with a fall that was explained."""


def rolled_over(before: float, after: float) -> bool:
    """Whether a register that fell so went over 2^32, a thousandth of it, or a power of ten; `_change` in Python."""
    return any(before < modulus and modulus - before + after <= modulus * NEAR for modulus in MODULI)


def steps_statement(
    history: History,
    edges: Edges,
    limit: int,
) -> Statement:
    """The aggregates of a metric that belong to the families `change` and `time`; see `sql.ordered` for the form.

    Of a counter: the aggregates, then `known`, the same in all rows: the last reading of that device whose last reading
    is the earliest, of all that a reading to come could still change; the end of the range where there is none. Then
    the quality as a position in `QUALITIES`. Of a gauge: the same without the quality. Of a state: seconds by word, and
    devices' shares by word added up, as JSON text.
    """
    statement, question, metric = Statement(), history.question, history.metric
    # A bucket that the range cuts is asked about as far as the range goes.
    clipped = Edges([single(question.start), *edges.cut(1, len(edges) - 1), single(question.end)])
    placed = statement.add_edges(clipped)
    points = history.expressions(statement)
    aggregates = question.chosen(Family.CHANGE, Family.TIME)[metric.name]
    match metric.kind:
        case Kind.COUNTER:
            steps = _changes(metric, question.reset, history.around.has_swaps)
            amount = "amount * seconds / whole"
            quality = "greatest(quality, CASE WHEN seconds < whole AND amount <> 0 THEN 1 ELSE 0 END) AS quality"
            piece = f"{amount} AS amount, seconds, {quality}"
        case Kind.GAUGE:
            steps = _lines(statement, question)
            piece = "seconds * (v0 + (v - v0) * (waited + seconds / 2) / whole) AS amount, seconds"
        case Kind.STATE:
            steps = _holds(statement, question)
            piece = "v::text AS word, seconds"
    known = "" if metric.kind is Kind.STATE else _known(statement, question, metric)
    combined = _combined(question, metric, aggregates, known)
    combined = f"WITH {points}, {_pieces(steps, piece, placed, len(clipped) - 1)} {combined}"
    return ordered(statement, question.by, combined, _columns(metric, aggregates), limit)


def known_statement(history: History) -> Statement:
    """One row: what `known` is in `steps_statement`, also where there is no step at all."""
    statement = Statement()
    points = history.expressions(statement)
    known = _known(statement, history.question, history.metric)
    statement.text = f"WITH {points} SELECT {known}"
    return statement


def _changes(metric: Metric, reset: Reset, has_swaps: bool) -> str:
    change = _change("v0", "v", metric, reset)
    if not has_swaps:
        quality, amount = "CASE WHEN v < v0 THEN 2 ELSE 0 END", change
        pairs = _PAIRS
    else:
        quality = "CASE WHEN v < v0 OR is_swap OR was_swap THEN 2 ELSE 0 END"
        amount = f"CASE WHEN v IS NULL THEN 0 ELSE {change} END + extra"
        pairs = _SWAPPED.format(extra=_change("s.start_index", "p.v", metric, reset))
    return f"""
        SELECT device_key, t0, t1, whole, {quality} AS quality, {amount} AS amount
        FROM ({pairs}) AS s
        WHERE t0 IS NOT NULL
    """


def _change(before: str, after: str, metric: Metric, reset: Reset) -> str:
    """What a counter gained between two values."""
    least = 1 - (metric.glitch or 0)
    over = " ".join(
        f"WHEN {before} < {modulus!r} AND {modulus!r} - {before} + {after} <= {modulus * NEAR!r} "
        f"THEN {modulus!r} - {before} + {after}"
        for modulus in MODULI
    )
    went_on = after if reset is Reset.ZERO else "0"
    return f"CASE WHEN {after} >= {before} * {least!r} THEN {after} - {before} {over} ELSE {went_on} END"


_PAIRS = """
    SELECT device_key, time AS t1, v, lag(time) OVER w AS t0, lag(v) OVER w AS v0,
           date_part('epoch', time - lag(time) OVER w) AS whole
    FROM points
    WINDOW w AS (PARTITION BY device_key ORDER BY time)
"""


_SWAPPED = """
    SELECT device_key, time AS t1, arrived AS v, extra, is_swap, lag(is_swap) OVER w AS was_swap,
           lag(time) OVER w AS t0, lag(went_on) OVER w AS v0, date_part('epoch', time - lag(time) OVER w) AS whole
    FROM (
        SELECT device_key, time, s.start_index IS NOT NULL AS is_swap, coalesce(p.v, s.start_index) AS went_on,
               CASE WHEN s.start_index IS NULL THEN p.v ELSE s.final_index END AS arrived,
               CASE WHEN p.v IS NULL OR s.start_index IS NULL THEN 0 ELSE {extra} END AS extra
        FROM points AS p FULL JOIN swaps AS s USING (device_key, time)
    ) AS ends
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


def _known(statement: Statement, question: Question, metric: Metric) -> str:
    """A device may have been silent since before the range: its next reading makes a step over all of it. Only of a
    gauge, a reading that is too far away makes none.
    """
    end, is_open = statement.add(question.end, "timestamptz"), "true"
    if metric.kind is Kind.GAUGE:
        gap = statement.add(question.max_gap or REACH, "interval")
        is_open = f"{statement.add(question.now, 'timestamptz')} < last + {gap}"
    return f"""
        (SELECT coalesce(min(last), {end}) FROM (SELECT max(time) AS last FROM points GROUP BY device_key) AS newest
         WHERE last < {end} AND {is_open})
    """


def _combined(question: Question, metric: Metric, aggregates: Sequence[Aggregate], known: str) -> str:
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
        SELECT r.bucket, {group} AS grp, {", ".join(finals)}, {known} AS known{quality}
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
    columns = [*(f"v{position}" for position in range(len(aggregates))), "known"]
    return [*columns, "quality"] if metric.kind is Kind.COUNTER else columns
