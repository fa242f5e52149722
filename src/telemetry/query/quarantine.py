"""What was refused and why, newest first, with the raw bytes."""

# ruff: noqa: S608 - identifiers are our own, values are parameters

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import starmap

from telemetry.query.database import Connection
from telemetry.query.turns import collected

PREVIEW_BYTES = 4096
"""Bytes of a payload that a list shows; the entry by its id has all of them."""

_COLUMNS = "id, received_at, domain, device_id, reason, detail, topic, position, length(payload)"
_CONDITIONS = """
    ($1::text[] IS NULL OR reason = ANY ($1)) AND ($2::text[] IS NULL OR domain = ANY ($2))
    AND ($3::text[] IS NULL OR device_id = ANY ($3))
    AND ($4::timestamptz IS NULL OR received_at >= $4) AND ($5::timestamptz IS NULL OR received_at < $5)
"""
_PAGE = f"""
SELECT {_COLUMNS}, substring(payload FOR {PREVIEW_BYTES}) FROM quarantine
WHERE {_CONDITIONS} AND ($6::bigint IS NULL OR id < $6)
ORDER BY id DESC
LIMIT $7
"""
_ENTRY = f"SELECT {_COLUMNS}, payload FROM quarantine WHERE id = $1"
_SUMMARY = f"""
SELECT domain, reason, count(*), min(received_at), max(received_at) FROM quarantine
WHERE {_CONDITIONS}
GROUP BY domain, reason
ORDER BY domain, reason
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One refused message, or one refused reading of a message.

    Attributes:
        position: the place in an array payload, from 0.
        payload_bytes: length of the whole payload; `payload` may be its beginning.
    """

    id: int
    received_at: datetime
    domain: str
    device_id: str | None
    reason: str
    detail: str
    topic: str
    position: int | None
    payload_bytes: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Group:
    """How many of one domain were refused for one reason, and when."""

    domain: str
    reason: str
    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Filters:
    """Which entries; what is empty or None does not filter."""

    reasons: Sequence[str] = ()
    domains: Sequence[str] = ()
    devices: Sequence[str] = ()
    start: datetime | None = None
    end: datetime | None = None

    @property
    def values(self) -> tuple[object, ...]:
        """As the statements take them."""
        return (
            list(self.reasons) or None,
            list(self.domains) or None,
            list(self.devices) or None,
            self.start,
            self.end,
        )


async def page(connection: Connection, filters: Filters, before: int | None, limit: int) -> list[Entry]:
    """Entries, newest first, with ids below `before`; payloads are cut off after `PREVIEW_BYTES`."""
    rows = await connection.fetch(_PAGE, *filters.values, before, limit)
    return await collected(starmap(Entry, rows))


async def entry(connection: Connection, number: int) -> Entry | None:
    """The entry of that id with its whole payload."""
    row = await connection.fetchrow(_ENTRY, number)
    return None if row is None else Entry(*row)


async def summary(connection: Connection, filters: Filters) -> list[Group]:
    """Counts by domain and reason."""
    return [Group(*row) for row in await connection.fetch(_SUMMARY, *filters.values)]
