"""The tables of what the broker lost: losses by hour, and how its counters stood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import asyncpg

from telemetry.store.copy import PATIENCE_S
from telemetry.store.layout import EPOCH, MICROSECOND

DROPPED: Final = "messages_dropped"
LOST: Final = "sessions_lost"

Counts: TypeAlias = dict[tuple[int, str], int]
"""Losses by (hour in µs since 1970, kind)."""

_SAVE = """
WITH counters AS (
    INSERT INTO broker_counters (broker, worker, topic, value, seen_at)
    SELECT $1, $2, topic, value, now() FROM unnest($6::text[], $7::bigint[]) AS c (topic, value)
    ON CONFLICT (broker, worker, topic) DO UPDATE SET value = excluded.value, seen_at = excluded.seen_at
)
INSERT INTO broker_losses (hour, broker, worker, kind, count)
SELECT hour, $1, $2, kind, count FROM unnest($3::timestamptz[], $4::text[], $5::bigint[]) AS l (hour, kind, count)
ON CONFLICT (hour, broker, worker, kind) DO UPDATE SET count = excluded.count
"""
_COUNTERS = "SELECT topic, value FROM broker_counters WHERE broker = $1 AND worker = $2"
_LOSSES = "SELECT hour, kind, count FROM broker_losses WHERE broker = $1 AND worker = $2 AND hour >= $3"


@dataclass(frozen=True, slots=True)
class Former:
    """What a process before this one has left.

    Attributes:
        counters: how they stood, by topic.
        counts: losses from a given hour on.
    """

    counters: dict[str, int]
    counts: Counts


async def load(database: asyncpg.Connection, broker: str, worker: str, from_hour_us: int) -> Former:
    """What there is of a worker and its broker."""
    rows = await database.fetch(_LOSSES, broker, worker, _time(from_hour_us), timeout=PATIENCE_S)
    return Former(
        {row["topic"]: row["value"] for row in await database.fetch(_COUNTERS, broker, worker, timeout=PATIENCE_S)},
        {((row["hour"] - EPOCH) // MICROSECOND, row["kind"]): row["count"] for row in rows},
    )


async def save(
    database: asyncpg.Connection, broker: str, worker: str, counts: Counts, counters: Mapping[str, int]
) -> None:
    """Writes how things stand, losses and counters together; may be repeated, for nothing is added up here."""
    await database.execute(
        _SAVE,
        broker,
        worker,
        [_time(hour_us) for hour_us, _ in counts],
        [kind for _, kind in counts],
        list(counts.values()),
        list(counters),
        list(counters.values()),
        timeout=PATIENCE_S,
    )


def _time(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)
