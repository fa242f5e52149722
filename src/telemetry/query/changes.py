"""Which closed buckets changed, for whoever has already billed on them.

Upkeep notes changes by quarters of an hour (`upkeep.changes`); a bucket changed when one of its quarters did after the
bucket was closed. What is noted up to the last visible round is complete, so that is the instant to go on from.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from telemetry.errors import InvalidQuery
from telemetry.query.calendar import WINDOWS, Window, bucket_edges, parse_window
from telemetry.query.database import Connection
from telemetry.spans import QUARTER

ALLOWED = WINDOWS[WINDOWS.index("15m") :]
_MOST = 1000
"""Buckets that are looked through at a time."""
_INSTANT = timedelta(microseconds=1)
_BEGINNING = datetime.min.replace(tzinfo=UTC)

_CLOSING = "SELECT first_until, closed_until, noted_at FROM closings WHERE domain = $1"
_NEXT = """
SELECT quarter FROM changes
WHERE domain = $1 AND noted_at > $2 AND noted_at <= $3 AND quarter > $4
  -- Without looking through all quarters where nothing is new.
  AND EXISTS (SELECT FROM changes WHERE domain = $1 AND noted_at > $2 AND noted_at <= $3)
ORDER BY quarter LIMIT 1
"""
# A quarter belongs to every bucket that holds a part of it: an edge may cut it where a zone is off by odd minutes.
_BUCKETS = """
SELECT ($4::timestamptz[])[bucket], min(noted_at), max(noted_at), count(*), coalesce(sum(late), 0)::bigint,
       bool_and(late IS NOT NULL), sum(merged)::bigint, sum(swaps)::bigint
FROM changes
CROSS JOIN generate_series(
    greatest(width_bucket(quarter, $4), 1),
    least(width_bucket(quarter + interval '15 minutes' - interval '1 microsecond', $4), cardinality($4) - 1)
) AS bucket
WHERE domain = $1 AND noted_at > $2 AND noted_at <= $3
  AND quarter > ($4)[1] - interval '15 minutes' AND quarter < ($4)[cardinality($4)] AND closed_until >= ($4)[bucket + 1]
GROUP BY bucket
ORDER BY bucket
"""


@dataclass(frozen=True, slots=True)
class Closing:
    """How far a domain is closed.

    Attributes:
        first_until: where closing began; of changes before it, it may not be known how many readings were late.
        closed_until: what ends at or before it is closed.
        noted_at: every change that could be seen then is noted.
    """

    first_until: datetime
    closed_until: datetime
    noted_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """What changed in a bucket.

    Attributes:
        start: of the bucket.
        first, last: when it was noted.
        changes: how often a quarter changed.
        late: readings that were added.
        is_counted: whether these are all of them.
        merged: readings that were completed.
        swaps: meter swaps that were declared, changed or withdrawn.
    """

    start: datetime
    first: datetime
    last: datetime
    changes: int
    late: int
    is_counted: bool
    merged: int
    swaps: int


@dataclass(frozen=True, slots=True)
class Noted:
    """Changes of a domain that were noted after `since`, up to `until`."""

    domain: str
    since: datetime
    until: datetime


async def closing(connection: Connection, domain: str) -> Closing | None:
    """How far the domain is closed; None before the first round of upkeep."""
    row = await connection.fetchrow(_CLOSING, domain)
    return None if row is None else Closing(*row)


async def changed_buckets(
    connection: Connection, noted: Noted, window: Window, zone: ZoneInfo, after: datetime | None, limit: int
) -> list[Change]:
    """The first buckets that were closed when a quarter that they hold, or hold a part of, changed; in rising order.

    Args:
        after: only buckets that start later.
    """
    found: list[Change] = []
    edge = None if after is None else bucket_edges(window, after, after + _INSTANT, zone)[-1]
    width = min(limit, _MOST)
    while len(found) < limit and (first := await _next(connection, noted, edge)) is not None:
        edges = bucket_edges(window, first, first + width * window.nominal, zone)
        rows = await connection.fetch(_BUCKETS, noted.domain, noted.since, noted.until, [*edges])
        found += [Change(*row) for row in rows]
        # Of many buckets in a row, none may have been closed in time.
        edge, width = edges[-1], min(2 * width, _MOST)
    return found[:limit]


async def _next(connection: Connection, noted: Noted, edge: datetime | None) -> datetime | None:
    """The first instant at or after an edge that lies in a changed quarter."""
    behind = _BEGINNING if edge is None else edge - QUARTER
    quarter: datetime | None = await connection.fetchval(_NEXT, noted.domain, noted.since, noted.until, behind)
    return quarter if edge is None or quarter is None else max(quarter, edge)


def parse_changes_window(text: str) -> Window:
    """A window of at least a quarter of an hour.

    Raises:
        InvalidQuery: it is none, or it is not known what changed in its buckets.
    """
    window = parse_window(text)
    if window.nominal < QUARTER:
        raise InvalidQuery("window", text, "is finer than the quarters of an hour that changes are noted by", ALLOWED)
    return window
