"""Bringing the roll-ups up to date over the quarters of an hour that `late_ranges` lists, one way per engine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import asyncpg

from telemetry.spans import Span
from telemetry.upkeep import counters
from telemetry.upkeep.cells import Cells
from telemetry.upkeep.changes import note

_WATERMARK = """
SELECT greatest(
    _timescaledb_functions.to_timestamp(_timescaledb_functions.cagg_watermark(mat_hypertable_id)), '1970-01-01 00:00Z')
FROM _timescaledb_catalog.continuous_agg
WHERE user_view_name = $1
"""


async def listed_quarters(database: asyncpg.Connection, domain: str, *, after: datetime) -> list[datetime]:
    """Listed quarters that start after the instant, each once."""
    rows = await database.fetch(
        "SELECT DISTINCT bucket FROM late_ranges WHERE domain = $1 AND bucket > $2 ORDER BY bucket", domain, after
    )
    return [row["bucket"] for row in rows]


async def refresh_postgres(database: asyncpg.Connection, domain: str, closed: datetime, closed_until: datetime) -> int:
    """Recomputes the roll-up tables over the listed quarters that start at or before `closed`; returns how many.

    Notes what changed in them; see `changes.note` for `closed_until`.
    """
    async with database.transaction():
        quarters = await _take(database, domain, closed)
        cells = await Cells.around(database, domain, quarters)
        await recompute(database, domain, cells)
        await _settle(database, domain, quarters, cells, closed, closed_until)
    return len(quarters)


async def recompute(database: asyncpg.Connection, domain: str, cells: Cells) -> None:
    """Recomputes cells of the roll-up tables (postgres engine)."""
    for width, spans in cells.levels():
        for start, end in spans:
            await database.execute("CALL telemetry_refresh_roll_up($1, $2, $3, $4)", domain, width, start, end)


async def refresh_timescaledb(
    database: asyncpg.Connection, domain: str, closed: datetime, closed_until: datetime
) -> int:
    """Refreshes the continuous aggregates over the listed quarters that start at or before `closed`; returns how many.

    A refresh cannot run inside a transaction, so the entries are deleted after it: a crash between the two repeats it.
    Notes what changed in the quarters; see `changes.note` for `closed_until`.
    """
    rows = await database.fetch("SELECT id, bucket FROM late_ranges WHERE domain = $1 AND bucket <= $2", domain, closed)
    listed = {row["bucket"] for row in rows}
    cells = await Cells.around(database, domain, listed)
    await _refresh_aggregates(database, domain, cells)
    async with database.transaction():
        # By their very ids: one that commits meanwhile may have a lower id than one that was seen.
        await database.execute("DELETE FROM late_ranges WHERE id = ANY($1::bigint[])", [row["id"] for row in rows])
        await _settle(database, domain, listed, cells, closed, closed_until)
    if rows:
        await _compact(database, domain)
    return len(listed)


async def _settle(
    database: asyncpg.Connection,
    domain: str,
    quarters: Collection[datetime],
    cells: Cells,
    closed: datetime,
    closed_until: datetime,
) -> None:
    """What both engines do in the transaction that takes quarters off the list."""
    await counters.refresh(database, domain, cells, closed)
    await note(database, domain, quarters, closed_until)
    await counters.cover(database, domain)


async def _refresh_aggregates(database: asyncpg.Connection, domain: str, cells: Cells) -> None:
    """Refreshes cells; an hour or a day that is still open is left to the aggregate's real-time part."""
    for width, spans in cells.levels(until=datetime.now(UTC)):
        if spans:
            await _refresh_aggregate(database, f"{domain}_{width}", spans)


async def _refresh_aggregate(database: asyncpg.Connection, name: str, ranges: Sequence[Span]) -> None:
    """Refreshes a continuous aggregate over ranges of whole cells.

    Its real-time part begins at the watermark, which a refresh moves to its own end. Cells in between that were open
    when their quarters left the list would vanish from sight, so they are refreshed with the ranges behind them.
    """
    watermark = await database.fetchval(_WATERMARK, name)
    seen = [each for each in ranges if each[1] <= watermark]
    beyond = [each for each in ranges if each[1] > watermark]
    if beyond:
        seen.append((min(watermark, beyond[0][0]), beyond[-1][1]))
    for start, end in seen:
        await database.execute(
            f"CALL refresh_continuous_aggregate('{name}', $1::timestamptz, $2::timestamptz)", start, end
        )


async def _take(database: asyncpg.Connection, domain: str, closed: datetime) -> list[datetime]:
    """Deletes the entries of the closed quarters and returns the quarters.

    The next statement of the transaction sees every row whose entry is deleted here: both were committed together.
    """
    rows = await database.fetch(
        "DELETE FROM late_ranges WHERE domain = $1 AND bucket <= $2 RETURNING bucket", domain, closed
    )
    await _compact(database, domain)
    return sorted({row["bucket"] for row in rows})


async def _compact(database: asyncpg.Connection, domain: str) -> None:
    """Keeps one entry, the newest, for each quarter that stays listed: ingest appends one per batch without looking."""
    await database.execute(
        """
        DELETE FROM late_ranges AS older
        USING (SELECT bucket, max(id) AS id FROM late_ranges WHERE domain = $1 GROUP BY bucket) AS newest
        WHERE older.domain = $1 AND older.bucket = newest.bucket AND older.id < newest.id
        """,
        domain,
    )
