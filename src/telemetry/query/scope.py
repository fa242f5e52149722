"""What the database says about a question before it is planned: which devices, how many groups, what is late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from telemetry.errors import InvalidQuery
from telemetry.query.aggregates import Family
from telemetry.query.database import Connection
from telemetry.query.question import By, Question

_SHOWN = 20
"""Names that an error lists at the most."""

_SCOPE = """
WITH chosen AS MATERIALIZED (
    SELECT device_key, zone, $4::text[] IS NOT NULL OR domain = $1 AS counts FROM devices
    WHERE ($4::text[] IS NULL OR device_id = ANY ($4)) AND ($5::text[] IS NULL OR zone = ANY ($5))
)
SELECT
    -- The beginning of the snapshot's transaction, by the clock that changes are noted by.
    now() AS as_of,
    (SELECT closed_until FROM closings WHERE domain = $1) AS closed_until,
    (SELECT value FROM telemetry_meta WHERE key = 'timezone') AS city_zone,
    ARRAY (
        SELECT DISTINCT bucket FROM late_ranges WHERE domain = $1 AND bucket >= $2 AND bucket < $3 ORDER BY bucket
    ) AS late,
    CASE WHEN $4::text[] IS NULL AND $5::text[] IS NULL THEN NULL
         ELSE ARRAY (SELECT device_key FROM chosen ORDER BY device_key) END AS device_keys,
    CASE $6::text WHEN 'none' THEN 1
                  WHEN 'device' THEN (SELECT count(*) FROM chosen WHERE counts)
                  ELSE (SELECT count(DISTINCT coalesce(zone, '')) FROM chosen WHERE counts) END AS groups,
    -- Believed only if the last round of upkeep vouched for them.
    (SELECT greatest(covered_from, $2) FROM counter_coverage AS c LEFT JOIN closings AS o USING (domain)
     WHERE domain = $1 AND c.noted_at IS NOT DISTINCT FROM o.noted_at AND covered_from < $3
       AND cardinality($7::text[]) > 0 AND metrics @> $7) AS counters_from,
    EXISTS (
        SELECT FROM meter_swaps WHERE domain = $1 AND metric = ANY ($7) AND time > $2 AND time < $3
        AND ($4::text[] IS NULL AND $5::text[] IS NULL OR device_key IN (SELECT device_key FROM chosen))
    ) AS has_swaps,
    (SELECT kept_from FROM kept_readings WHERE domain = $1) AS kept_from,
    -- Last: whether a device or zone is asked for that is not there.
    EXISTS (SELECT FROM unnest($4::text[]) AS asked WHERE NOT EXISTS (SELECT FROM devices WHERE device_id = asked))
    OR EXISTS (SELECT FROM unnest($5::text[]) AS asked WHERE NOT EXISTS (SELECT FROM devices WHERE zone = asked))
"""
_UNKNOWN = """
SELECT ARRAY (SELECT unnest($1::text[]) EXCEPT SELECT device_id FROM devices WHERE device_id = ANY ($1)),
       ARRAY (SELECT unnest($2::text[]) EXCEPT SELECT zone FROM devices WHERE zone = ANY ($2))
"""
_KEYS = """
SELECT device_key FROM devices
WHERE (cardinality($1::text[]) = 0 OR device_id = ANY ($1)) AND (cardinality($2::text[]) = 0 OR zone = ANY ($2))
"""
_NAMED = "SELECT DISTINCT CASE $1 WHEN 'device' THEN device_id ELSE zone END FROM devices WHERE device_key = ANY ($2)"
_ZONES = "SELECT DISTINCT zone FROM devices WHERE zone IS NOT NULL ORDER BY zone LIMIT $1"


@dataclass(frozen=True, slots=True)
class Scope:
    """The surroundings of a question.

    Attributes:
        as_of: what changes later than what can be seen now is noted later than that.
        closed_until: what ends at or before it is closed; None before the first round of upkeep.
        city_zone: time zone of the days of the daily roll-ups.
        late: starts of the quarters of an hour whose roll-up rows may be stale, in order.
        device_keys: only these; None where the question names neither devices nor zones.
        groups: as far as the registry knows.
        counters_from: from when on the counters whose changes are asked for have cells; None where they have none.
        has_swaps: whether the meter of such a counter was swapped on one of the devices, up to the margin around the
            range.
        kept_from: readings before it are gone, or about to be; None where all are kept.
    """

    as_of: datetime
    closed_until: datetime | None
    city_zone: str
    late: Sequence[datetime]
    device_keys: Sequence[int] | None
    groups: int
    counters_from: datetime | None = None
    has_swaps: bool = False
    kept_from: datetime | None = None


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
        list(question.chosen(Family.CHANGE)),
    )
    assert row is not None
    *found, is_anything_unknown = row
    if is_anything_unknown:
        await refuse_unknown(connection, question.devices, question.zones)
    return Scope(*found)


async def device_keys(connection: Connection, devices: Sequence[str], zones: Sequence[str]) -> list[int] | None:
    """The keys of the devices of these ids in these zones; None where neither is named.

    Raises:
        InvalidQuery: one of them is not in the registry.
    """
    if not devices and not zones:
        return None
    await refuse_unknown(connection, devices, zones)
    return [row[0] for row in await connection.fetch(_KEYS, list(devices), list(zones))]


async def find_kept_from(connection: Connection, domain: str) -> datetime | None:
    """Readings before it are gone, or about to be; None where all are kept."""
    found: datetime | None = await connection.fetchval("SELECT kept_from FROM kept_readings WHERE domain = $1", domain)
    return found


async def named_groups(
    connection: Connection, question: Question, device_keys: Sequence[int] | None
) -> Sequence[str | None]:
    """The groups that the question names and that its devices belong to; all devices together are always one."""
    if question.by is By.NONE:
        return (None,)
    if device_keys is None or not (question.devices if question.by is By.DEVICE else question.zones):
        return ()
    return [row[0] for row in await connection.fetch(_NAMED, question.by, list(device_keys))]


async def refuse_unknown(connection: Connection, devices: Sequence[str], zones: Sequence[str]) -> None:
    """Refuses names that the registry does not have: a misspelt one must not look like silence.

    Raises:
        InvalidQuery: one of them is not there.
    """
    if not devices and not zones:
        return
    row = await connection.fetchrow(_UNKNOWN, list(devices), list(zones))
    assert row is not None
    if row[0]:
        raise InvalidQuery("device", row[0][0], "there is no such device", ("the ids that /v1/devices lists",))
    if row[1]:
        there = [each["zone"] for each in await connection.fetch(_ZONES, _SHOWN + 1)]
        more = ("…",) if len(there) > _SHOWN else ()
        raise InvalidQuery("zone", row[1][0], "there is no device in that zone", (*there[:_SHOWN], *more))
