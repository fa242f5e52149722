"""What the database says about a question before it is planned: which devices, how many groups, what is late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from telemetry.errors import InvalidQuery
from telemetry.query.database import Connection
from telemetry.query.question import Question

_SHOWN = 20
"""Names that an error lists at the most."""

_SCOPE = """
WITH chosen AS MATERIALIZED (
    SELECT device_key, zone, $4::text[] IS NOT NULL OR domain = $1 AS counts FROM devices
    WHERE ($4::text[] IS NULL OR device_id = ANY ($4)) AND ($5::text[] IS NULL OR zone = ANY ($5))
)
SELECT
    (SELECT value FROM telemetry_meta WHERE key = 'timezone') AS city_zone,
    ARRAY (SELECT DISTINCT bucket FROM late_ranges WHERE domain = $1 AND bucket >= $2 AND bucket < $3) AS late,
    CASE WHEN $4::text[] IS NULL AND $5::text[] IS NULL THEN NULL
         ELSE ARRAY (SELECT device_key FROM chosen ORDER BY device_key) END AS device_keys,
    CASE $6::text WHEN 'none' THEN 1
                  WHEN 'device' THEN (SELECT count(*) FROM chosen WHERE counts)
                  ELSE (SELECT count(DISTINCT coalesce(zone, '')) FROM chosen WHERE counts) END AS groups,
    ARRAY (SELECT asked FROM unnest($4::text[]) AS asked WHERE NOT EXISTS (SELECT FROM devices WHERE device_id = asked))
        AS unknown_devices,
    ARRAY (SELECT asked FROM unnest($5::text[]) AS asked WHERE NOT EXISTS (SELECT FROM devices WHERE zone = asked))
        AS unknown_zones
"""
_ZONES = "SELECT DISTINCT zone FROM devices WHERE zone IS NOT NULL ORDER BY zone LIMIT $1"


@dataclass(frozen=True, slots=True)
class Scope:
    """The surroundings of a question.

    Attributes:
        city_zone: time zone of the days of the daily roll-ups.
        late: starts of the quarters of an hour whose roll-up rows may be stale.
        device_keys: only these; None where the question names neither devices nor zones.
        groups: as far as the registry knows.
    """

    city_zone: str
    late: Sequence[datetime]
    device_keys: Sequence[int] | None
    groups: int


async def find_scope(connection: Connection, question: Question, margin: timedelta) -> Scope:
    """The scope of a question; late quarters are looked for up to `margin` around its range.

    Raises:
        InvalidQuery: a device or zone that is asked for is not in the registry.
    """
    row = await connection.fetchrow(
        _SCOPE,
        question.domain.name,
        question.start - margin,
        question.end + margin,
        list(question.devices) or None,
        list(question.zones) or None,
        question.by,
    )
    assert row is not None
    if row["unknown_devices"]:
        raise unknown_device(row["unknown_devices"][0])
    if row["unknown_zones"]:
        raise await unknown_zone(connection, row["unknown_zones"][0])
    return Scope(row["city_zone"], row["late"], row["device_keys"], row["groups"])


def unknown_device(name: str) -> InvalidQuery:
    """The error about a device that is not in the registry."""
    return InvalidQuery("device", name, "there is no such device", ("the ids that /v1/devices lists",))


async def unknown_zone(connection: Connection, name: str) -> InvalidQuery:
    """The error about a zone in which there is no device, with those that there are."""
    zones = [row["zone"] for row in await connection.fetch(_ZONES, _SHOWN + 1)]
    more = ("…",) if len(zones) > _SHOWN else ()
    return InvalidQuery("zone", name, "there is no device in that zone", (*zones[:_SHOWN], *more))
