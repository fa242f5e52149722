"""SQL statements in the making, and the forms that all of a question's statements share.

Identifiers come from the domain registry alone and values travel as parameters, so no word of the asker becomes SQL.
`width_bucket` finds the bucket of a row by binary search in the array of edges: exact for any calendar, on any engine.
"""

# ruff: noqa: S608 - identifiers are our own, values are parameters

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any

from telemetry.query.instants import microseconds
from telemetry.query.plan import Segment
from telemetry.query.question import By
from telemetry.query.size import MANY

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,59}")


@dataclass
class Statement:
    """SQL text and its parameters; `add` returns the placeholder of a value.

    Attributes:
        beginning: expressions that `ordered` puts before the rest.
    """

    text: str = ""
    values: list[Any] = field(default_factory=list)
    beginning: str = ""

    def add(self, value: Any, type_name: str) -> str:
        """Adds a value of a PostgreSQL type and returns its placeholder."""
        self.values.append(value)
        return f"${len(self.values)}::{type_name}"


def placed(statement: Statement, edges: Sequence[datetime]) -> str:
    """Adds the edges of buckets, and returns the array of them.

    Many travel as a text of microseconds: asyncpg takes half a second to write down a million instants, and the event
    loop waits for it.
    """
    if len(edges) < MANY:
        return statement.add(list(edges), "timestamptz[]")
    since_1970 = statement.add(",".join(str(microseconds(edge)) for edge in edges), "text")
    statement.beginning = f"""
        WITH laid AS MATERIALIZED (
            SELECT array_agg(timestamptz 'epoch' + us::bigint * interval '1 microsecond') AS edges
            FROM unnest(string_to_array({since_1970}, ',')) AS us
        )
    """
    return "(SELECT edges FROM laid)"


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
