"""The registry of devices: an id is unique in the city; readings carry its integer key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import asyncpg

_PATIENCE_S = 5
"""A batch that stands still must not hold up all others behind somebody who wants to remove a device."""


@dataclass(frozen=True, slots=True)
class Device:
    """What people know of a device.

    Attributes:
        device_id: 1 to 128 characters of `[A-Za-z0-9._:-]`.
        domain: its home; it may report in other domains as well.
        latitude, longitude: degrees, WGS 84.
        interval_s: seconds between its readings, if it keeps one.
    """

    device_id: str
    domain: str
    name: str | None = None
    zone: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    interval_s: float | None = None


async def upsert(database: asyncpg.Connection, devices: Iterable[Device]) -> tuple[int, int]:
    """Adds and replaces devices in one transaction, as the import and the demo do.

    Returns:
        How many were added, and how many were there before.
    """
    # Sorted, so that the row locks are taken in the same order as by `register`.
    ordered = sorted(devices, key=lambda device: device.device_id)
    rows = [(d.device_id, d.domain, d.name, d.zone, d.latitude, d.longitude, d.interval_s) for d in ordered]
    columns = list(zip(*rows, strict=True)) or [()] * 7
    added = await database.fetch(
        """
        INSERT INTO devices (device_id, domain, name, zone, latitude, longitude, interval_s)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::float8[], $7::float8[])
        ON CONFLICT (device_id) DO UPDATE SET
            domain = excluded.domain, name = excluded.name, zone = excluded.zone, latitude = excluded.latitude,
            longitude = excluded.longitude, interval_s = excluded.interval_s, updated_at = now()
        RETURNING xmax = 0 AS added
        """,
        *columns,
    )
    fresh = sum(row["added"] for row in added)
    return fresh, len(added) - fresh


async def keys(database: asyncpg.Connection, device_ids: Iterable[str] | None = None) -> dict[str, int]:
    """The integer keys of the given devices, or of all; unknown ones are missing."""
    if device_ids is None:
        rows = await database.fetch("SELECT device_id, device_key FROM devices")
    else:
        rows = await database.fetch(
            "SELECT device_id, device_key FROM devices WHERE device_id = ANY($1::text[])", list(device_ids)
        )
    return {row["device_id"]: row["device_key"] for row in rows}


async def register(database: asyncpg.Connection, domains: Mapping[str, str]) -> dict[str, int]:
    """Registers devices seen for the first time (id to domain) and returns their keys, whoever was first."""
    # Sorted, so that two workers that meet the same devices take the row locks in the same order.
    ids = sorted(domains)
    await database.execute(
        """
        INSERT INTO devices (device_id, domain)
        SELECT * FROM unnest($1::text[], $2::text[])
        ON CONFLICT (device_id) DO NOTHING
        """,
        ids,
        [domains[device_id] for device_id in ids],
    )
    return await keys(database, ids)


async def stop_batches(database: asyncpg.Connection) -> None:
    """Waits for the batches under way; no other begins until the transaction ends. What they wrote is seen from now on.

    Raises:
        asyncpg.LockNotAvailableError: they take too long.
    """
    await database.execute(f"SET LOCAL lock_timeout = '{_PATIENCE_S}s'")
    await database.execute("SELECT telemetry_stop_batches()")


async def remove(database: asyncpg.Connection, device_id: str) -> bool:
    """Removes a device; False where there is none.

    The caller makes sure that no readings carry its key, after `stop_batches` and in the same transaction.
    """
    statement = """
        WITH clock AS (DELETE FROM device_clocks WHERE device_id = $1)
        DELETE FROM devices WHERE device_id = $1
    """
    return await database.execute(statement, device_id) == "DELETE 1"
