"""The registry of devices, as it is asked for."""

# ruff: noqa: S608 - identifiers are our own, values are parameters

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import starmap

from telemetry.query.database import Connection
from telemetry.query.sql import identifier
from telemetry.query.turns import collected
from telemetry.query.unrolled import few_of_quarters, listed

_COLUMNS = """
    device_id, domain, name, zone, latitude, longitude, interval_s, first_seen, updated_at, skew_s, seen_at
"""
_RELATION = "devices LEFT JOIN device_clocks USING (device_id)"
_PAGE = f"""
SELECT {_COLUMNS} FROM {_RELATION}
WHERE ($1::text[] IS NULL OR domain = ANY ($1)) AND ($2::text[] IS NULL OR zone = ANY ($2))
  AND device_id COLLATE "C" > $3 AND ($5::float8 IS NULL OR abs(skew_s) >= $5)
ORDER BY device_id COLLATE "C"
LIMIT $4
"""
_ONE = f"SELECT {_COLUMNS} FROM {_RELATION} WHERE device_id = $1"


@dataclass(frozen=True, slots=True)
class Registered:
    """A device as the registry has it; see the tables `devices` and `device_clocks`.

    Attributes:
        clock_skew_s: positive is ahead of our clock; None where none was measured, as of a device that sends no time.
        clock_seen_at: receipt of the newest reading behind it.
    """

    device_id: str
    domain: str
    name: str | None
    zone: str | None
    latitude: float | None
    longitude: float | None
    interval_s: float | None
    first_seen: datetime
    updated_at: datetime
    clock_skew_s: float | None
    clock_seen_at: datetime | None


async def page(
    connection: Connection,
    domains: Sequence[str],
    zones: Sequence[str],
    after: str,
    limit: int,
    min_skew_s: float | None = None,
) -> list[Registered]:
    """Devices in order of their ids, behind `after`; of all domains and zones where none is named.

    Args:
        min_skew_s: only those whose clock is off by at least that, ahead or behind.
    """
    rows = await connection.fetch(_PAGE, list(domains) or None, list(zones) or None, after, limit, min_skew_s)
    return await collected(starmap(Registered, rows))


async def one(connection: Connection, device_id: str) -> Registered | None:
    """The device of that id."""
    row = await connection.fetchrow(_ONE, device_id)
    return None if row is None else Registered(*row)


async def domains_with_readings(
    connection: Connection, device_id: str, domains: Iterable[str], looked: set[int]
) -> list[str]:
    """The domains that hold readings of a device, raw or in roll-ups, which outlive them.

    Args:
        looked: entries of `late_ranges` whose readings were looked at before, by their ids; those of this look are
            added. A second look finds what was committed since the first one, and is quickly done.
    """
    names = sorted(domains)
    # In this order; see `unrolled`.
    quarters, entries = await listed(connection, names, looked)
    arms = [f"EXISTS (SELECT FROM {identifier(f'{name}_1d')} AS r WHERE r.device_key = d.device_key)" for name in names]
    row = await connection.fetchrow(
        f"SELECT d.device_key, {', '.join(arms)} FROM devices AS d WHERE device_id = $1", device_id
    )
    if row is None:
        return []
    device_key, *found = row
    holding = {name for name, holds in zip(names, found, strict=True) if holds}
    for name in sorted(quarters.keys() - holding):
        statement = f"""
            SELECT EXISTS (SELECT FROM {identifier(f"{name}_readings")}
                           WHERE device_key = $1 AND time >= $2 AND time < $3)
        """
        for span in few_of_quarters(quarters[name]):
            if await connection.fetchval(statement, device_key, *span):
                holding.add(name)
                break
    looked |= entries
    return sorted(holding)
