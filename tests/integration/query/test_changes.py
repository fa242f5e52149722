"""From changed quarters of an hour to the buckets that whoever billed on them asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from telemetry.errors import InvalidQuery
from telemetry.query.calendar import bucket_edges, parse_window
from telemetry.query.changes import Change, Noted, changed_buckets, parse_changes_window
from telemetry.spans import QUARTER

PARIS = ZoneInfo("Europe/Paris")
NOON = datetime(2026, 3, 28, 12, tzinfo=UTC)
LONG_CLOSED = NOON + timedelta(days=400)
NOTED = NOON + timedelta(days=10)
ALL = Noted("lighting", NOTED - timedelta(seconds=1), NOTED + timedelta(days=1))


@dataclass(frozen=True)
class Entry:
    """What upkeep notes of a quarter."""

    quarter: datetime
    closed_until: datetime = LONG_CLOSED
    noted_s: int = 0
    late: int | None = 1


async def note(connection: asyncpg.Connection, *entries: Entry) -> None:
    await connection.execute("TRUNCATE changes")
    await connection.copy_records_to_table(
        "changes",
        columns=["domain", "quarter", "closed_until", "noted_at", "late", "merged", "swaps"],
        records=[
            (domain, each.quarter, each.closed_until, NOTED + timedelta(seconds=each.noted_s), each.late, 2, 3)
            for each in entries
            for domain in ("lighting", "waste")
        ],
    )


async def pages(
    connection: asyncpg.Connection, window: str, zone: ZoneInfo = PARIS, limit: int = 100, noted: Noted = ALL
) -> list[Change]:
    found: list[Change] = []
    while True:
        after = found[-1].start if found else None
        page = await changed_buckets(connection, noted, parse_window(window), zone, after, limit)
        found += page
        if len(page) < limit:
            return found


def naive(entries: Sequence[Entry], window: str, zone: ZoneInfo) -> list[tuple[datetime, int, int]]:
    """Starts, changes and late readings of the changed buckets, straight from the definition."""
    first = min(each.quarter for each in entries)
    last = max(each.quarter for each in entries) + QUARTER
    found = []
    for start, end in pairwise(bucket_edges(parse_window(window), first, last, zone)):
        held = [e for e in entries if e.quarter < end and e.quarter + QUARTER > start and end <= e.closed_until]
        if held:
            found.append((start, len(held), sum(each.late or 0 for each in held)))
    return found


@pytest.mark.asyncio
async def test_quarters_of_a_bucket_are_added_up(connection: asyncpg.Connection) -> None:
    entries = [Entry(NOON, noted_s=5, late=3), Entry(NOON + QUARTER, noted_s=2, late=4), Entry(NOON, noted_s=9)]
    await note(connection, *entries)
    (found,) = await pages(connection, "1h")
    first, last = (NOTED + timedelta(seconds=seconds) for seconds in (2, 9))
    assert found == Change(NOON, first, last, 3, 8, is_counted=True, merged=6, swaps=9)
    # What was noted at `since` is told already, and what is noted after `until` will be.
    part = Noted("lighting", NOTED + timedelta(seconds=2), NOTED + timedelta(seconds=5))
    assert [each.late for each in await pages(connection, "1h", noted=part)] == [3]
    await note(connection, Entry(NOON), Entry(NOON + QUARTER, late=None))
    (found,) = await pages(connection, "1h")
    assert (found.late, found.is_counted) == (1, False)
    # A bucket that was still open has not changed.
    hour_end = NOON + timedelta(hours=1)
    await note(connection, Entry(NOON, hour_end - QUARTER), Entry(hour_end, hour_end + timedelta(hours=1)))
    assert [each.start for each in await pages(connection, "1h")] == [hour_end]


@pytest.mark.asyncio
@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_pages_of_any_size_tell_every_bucket_once(connection: asyncpg.Connection, limit: int) -> None:
    # Both days of the year on which the clocks of Paris change, a long gap, and hours of which none was closed.
    days = [datetime(2026, 3, 28, 20, tzinfo=UTC), datetime(2026, 10, 24, 20, tzinfo=UTC)]
    quarters = [day + each * QUARTER for day in days for each in range(0, 40, 3)]
    entries = [Entry(each, noted_s=number, late=number) for number, each in enumerate(quarters)]
    opened = [each * timedelta(hours=1) + NOON + timedelta(days=30) for each in range(30)]
    entries += [Entry(each, closed_until=each + 2 * QUARTER) for each in opened]
    await note(connection, *entries)
    for window in ("15m", "1h", "6h", "1d", "1mo", "1y"):
        found = await pages(connection, window, limit=limit)
        assert [(each.start, each.changes, each.late) for each in found] == naive(entries, window, PARIS), window


@pytest.mark.asyncio
async def test_quarter_that_an_edge_cuts_changes_both_buckets(connection: asyncpg.Connection) -> None:
    # Until 1937 the clocks of Amsterdam were 19 min 32 s ahead.
    quarter = datetime(1930, 1, 1, 11, 30, tzinfo=UTC)
    edge = datetime(1930, 1, 1, 11, 40, 28, tzinfo=UTC)
    await note(connection, Entry(quarter))
    for limit in (1, 100):
        found = await pages(connection, "1h", ZoneInfo("Europe/Amsterdam"), limit)
        assert [each.start for each in found] == [edge - timedelta(hours=1), edge]


@pytest.mark.asyncio
async def test_page_reads_no_more_changes_than_it_tells(connection: asyncpg.Connection) -> None:
    await note(connection, *(Entry(NOON + each * QUARTER) for each in range(-20_000, 0)))
    await connection.execute("VACUUM ANALYZE changes")
    read = "SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables WHERE relname = 'changes'"
    async with connection.transaction():
        found = await changed_buckets(connection, ALL, parse_window("15m"), PARIS, NOON - timedelta(days=200), 5)
        assert len(found) == 5
        assert 5 <= await connection.fetchval(read) < 50


def test_window_below_a_quarter_of_an_hour_is_refused() -> None:
    with pytest.raises(InvalidQuery, match="finer"):
        parse_changes_window("10m")
    assert str(parse_changes_window("PT15M")) == "15m"
