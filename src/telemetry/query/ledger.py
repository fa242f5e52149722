"""The conservation table: what was received, and what became of it, per hour and domain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import starmap

from telemetry.query.database import Connection
from telemetry.query.turns import collected

_HOURS = """
SELECT hour, domain, received, stored, merged, duplicate, quarantined, reasons::text, imbalance
FROM ledger_hourly
WHERE hour > $1::timestamptz - interval '1 hour' AND hour < $2 AND ($3::text[] IS NULL OR domain = ANY ($3))
ORDER BY hour, domain
LIMIT $4
"""
_LOSSES = """
SELECT hour, messages_dropped, sessions_lost
FROM broker_losses_hourly
WHERE hour > $1::timestamptz - interval '1 hour' AND hour < $2
ORDER BY hour
"""
_COUNTERS_SEEN = "SELECT max(seen_at) FROM broker_counters"
_IMBALANCES = """
SELECT domain, sum(CASE outcome WHEN 'received' THEN readings WHEN 'merged' THEN 0 ELSE -readings END)::bigint
FROM ledger
GROUP BY domain
ORDER BY domain
"""


@dataclass(frozen=True, slots=True)
class Account:
    """One domain's hour.

    Attributes:
        merged: the part of `stored` that completed a row that was there.
        reasons: the quarantined by reason, as JSON text.
        imbalance: 0, or something was lost.
    """

    hour: datetime
    domain: str
    received: int
    stored: int
    merged: int
    duplicate: int
    quarantined: int
    reasons: str
    imbalance: int


@dataclass(frozen=True, slots=True)
class Loss:
    """What the brokers lost, as far as they tell, by the hour in which it was noticed.

    Attributes:
        messages_dropped: for whomever; that is all that a broker says.
        sessions_lost: times that a broker had forgotten our session, and with it what it held.
    """

    hour: datetime
    messages_dropped: int
    sessions_lost: int


async def losses(connection: Connection, start: datetime, end: datetime) -> tuple[list[Loss], datetime | None]:
    """The hours with losses that overlap `[start, end)`, and when a counter of a broker was seen last."""
    rows = await connection.fetch(_LOSSES, start, end)
    seen: datetime | None = await connection.fetchval(_COUNTERS_SEEN)
    return [Loss(*row) for row in rows], seen


async def hours(
    connection: Connection, start: datetime, end: datetime, domains: Sequence[str], limit: int
) -> list[Account]:
    """The hours that overlap `[start, end)`, of the given domains or of all, in order of hour and domain."""
    rows = await connection.fetch(_HOURS, start, end, list(domains) or None, limit)
    return await collected(starmap(Account, rows))


async def imbalances(connection: Connection, within_s: float) -> Iterable[tuple[str, int]]:
    """Each domain's imbalance over all hours."""
    return [(row[0], row[1]) for row in await connection.fetch(_IMBALANCES, timeout=within_s)]
