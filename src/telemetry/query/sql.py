"""SQL statements in the making, and the forms that all of a question's statements share.

Identifiers come from the domain registry alone and values travel as parameters, so no word of the asker becomes SQL.
`width_bucket` finds the bucket of a row by binary search in the array of edges: exact for any calendar, on any engine.
Where the array is long and even, the database makes it: to send a month of quarters of an hour takes longer than all
else that is done to ask for them.
"""

# ruff: noqa: S608 - identifiers are our own, values are parameters

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain
from typing import Any

from telemetry.query.edges import Edges
from telemetry.query.instants import instant
from telemetry.query.plan import Segment
from telemetry.query.question import By
from telemetry.query.size import MANY

LONG = 100
"""Edges that are not sent one by one, if they follow each other evenly."""
_FEW = 6
"""Stretches of which they may consist."""
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,59}")


@dataclass
class Statement:
    """SQL text and its parameters; `add` returns the placeholder of a value.

    Attributes:
        beginning: expressions that `ordered` and `gathered` put before the rest.
    """

    text: str = ""
    values: list[Any] = field(default_factory=list)
    beginning: str = ""

    def add(self, value: Any, type_name: str) -> str:
        """Adds a value of a PostgreSQL type and returns its placeholder."""
        self.values.append(value)
        return f"${len(self.values)}::{type_name}"

    def add_edges(self, edges: Edges) -> str:
        """Adds the edges of buckets and returns what stands for their array."""
        if len(edges) < LONG or ((is_uneven := len(edges.stretches) > _FEW) and len(edges) < MANY):
            return self.add([*edges], "timestamptz[]")
        array = self._told(edges) if is_uneven else self._laid(edges)
        # A query of its own is made once for a statement, not once for each of its rows …
        if len(edges) < MANY:
            return f"(SELECT {array})"
        # … and one that takes long only once for all places that name it.
        self.beginning = f"WITH laid AS MATERIALIZED (SELECT {array} AS edges)"
        return "(SELECT edges FROM laid)"

    def _laid(self, edges: Edges) -> str:
        """The array of edges that follow each other evenly."""
        arrays = []
        for stretch in edges.stretches:
            ends = [self.add(instant(at), "timestamptz") for at in (stretch[0], stretch[-1])]
            step = self.add(timedelta(microseconds=stretch.step), "interval")
            arrays.append(f"ARRAY (SELECT generate_series({ends[0]}, {ends[1]}, {step}))")
        return " || ".join(arrays)

    def _told(self, edges: Edges) -> str:
        """The array of other edges, sent as a text of microseconds: asyncpg takes half a second to write down a
        million instants, and the event loop waits for it.
        """
        since_1970 = self.add(",".join(map(str, chain.from_iterable(edges.stretches))), "text")
        at = "timestamptz 'epoch' + us::bigint * interval '1 microsecond'"
        return f"ARRAY (SELECT {at} FROM unnest(string_to_array({since_1970}, ',')) AS us)"


def identifier(name: str) -> str:
    """A name of the registry as an SQL identifier."""
    assert _IDENTIFIER.fullmatch(name), name
    return f'"{name}"'


def scanned(statement: Statement, domain: str, segment: Segment, keys: str | None) -> tuple[str, str, str]:
    """The time column, the relation (as `r`) and the conditions that read a segment."""
    at = "r.time" if segment.relation == "readings" else "r.bucket"
    conditions = [
        f"{at} >= {statement.add(segment.start, 'timestamptz')}",
        f"{at} < {statement.add(segment.end, 'timestamptz')}",
    ]
    if len(segment.spans) > 1:
        # Odd between the two ends of a span, even between two spans.
        ends = statement.add(list(chain.from_iterable(segment.spans)), "timestamptz[]")
        conditions.append(f"width_bucket({at}, {ends}) % 2 = 1")
    if keys is not None:
        conditions.append(f"r.device_key = ANY ({keys})")
    return at, f"{identifier(f'{domain}_{segment.relation}')} AS r", " AND ".join(conditions)


def grouping(by: By) -> tuple[str, str]:
    """The group of a row `r`, and the join that it needs: a device's key, a zone, or one for all."""
    match by:
        case By.DEVICE:
            return "r.device_key", ""
        case By.ZONE:
            return "d.zone", " JOIN devices AS d ON d.device_key = r.device_key"
    return "0", ""


def ordered(statement: Statement, by: By, combined: str, columns: Sequence[str], limit: int) -> Statement:
    """Completes a statement whose `combined` answers `bucket`, `grp` and the columns, one row for each two.

    The rows come as bucket, group, seconds between readings, columns; in order of the first two. Grouped by device, the
    group is the device's id and the seconds are those of the registry; otherwise they are NULL.
    """
    values = ", ".join(f"a.{column}" for column in columns)
    if by is By.DEVICE:
        group, interval, join = 'd.device_id COLLATE "C"', "d.interval_s", "JOIN devices AS d ON d.device_key = a.grp"
    else:
        group, interval, join = ('a.grp COLLATE "C"' if by is By.ZONE else "a.grp"), "NULL::float8", ""
    statement.text = "\n".join(
        [
            statement.beginning,
            f"SELECT a.bucket, {group} AS grp, {interval} AS interval_s, {values}",
            f"FROM ({combined}) AS a {join}",
            f"ORDER BY bucket, grp LIMIT {statement.add(limit, 'bigint')}",
        ]
    )
    return statement


def gathered(
    statement: Statement, by: By, combined: str, columns: Sequence[str], limit: int, lone: str | None
) -> Statement:
    """The same as one row, which has each column as an array (NULL without rows), or the one value that all rows have.

    Args:
        lone: array of the key of the only device that there is.
    """
    if lone is None or by is not By.DEVICE:
        ordered(statement, by, combined, columns, limit)
        told = [
            "NULL" if by is By.NONE else "array_agg(o.grp)",
            "NULL" if by is not By.DEVICE else "array_agg(o.interval_s)",
        ]
        inner = statement.text
    else:
        told = [f"(SELECT {name} FROM devices WHERE device_key = ANY ({lone}))" for name in ("device_id", "interval_s")]
        most = statement.add(limit, "bigint")
        inner = f"{statement.beginning} SELECT * FROM ({combined}) AS a ORDER BY bucket LIMIT {most}"
    arrays = ", ".join(f"array_agg(o.{column})" for column in columns)
    statement.text = f"SELECT array_agg(o.bucket), {', '.join(told)}, {arrays} FROM ({inner}) AS o"
    return statement
