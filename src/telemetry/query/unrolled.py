"""Readings that the roll-ups do not show: those of the quarters of an hour that `late_ranges` lists.

A statement that names no times locks every partition of a table, and five years of days are more than a server has
locks for. So who looks for something in all readings looks into the daily roll-up, and into the raw readings of listed
quarters only, a span of them in a statement. Listed quarters are to be read first: what leaves the list in between is
in the roll-up then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from telemetry.query.database import Connection
from telemetry.spans import Span, joined, of_quarters

_DAY = timedelta(days=1)
_MONTH = timedelta(days=30)

_LISTED = """
SELECT domain, bucket, array_agg(id) FROM late_ranges
WHERE domain = ANY ($1::text[]) AND id <> ALL ($2::bigint[])
GROUP BY domain, bucket
"""


async def listed(
    connection: Connection, domains: Iterable[str], known: Collection[int] = ()
) -> tuple[dict[str, list[datetime]], set[int]]:
    """The listed quarters of domains that have any, and the ids of their entries; those of known ids are left out."""
    quarters: dict[str, list[datetime]] = {}
    ids: set[int] = set()
    for domain, quarter, entries in await connection.fetch(_LISTED, list(domains), list(known)):
        quarters.setdefault(domain, []).append(quarter)
        ids.update(entries)
    return quarters, ids


def few_of_quarters(quarters: Iterable[datetime]) -> list[Span]:
    """Spans for statements: those around quarters of an hour that are less than a day apart, in pieces of a month."""
    return [
        (start + piece * _MONTH, min(start + (piece + 1) * _MONTH, end))
        for start, end in joined(of_quarters(quarters), _DAY)
        for piece in range(-(-(end - start) // _MONTH))
    ]
