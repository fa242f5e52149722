"""Upkeep of the database: partitions ahead, roll-ups after late data, retention. One leader at a time does it.

A quarter of an hour that an ingest transaction touched is listed in `late_ranges` until the roll-ups show it; whoever
reads roll-ups must take listed quarters from the raw rows. Here is where the list gets shorter: closed quarters are
recomputed and their entries deleted in one transaction, and what changed in those that were closed before is noted
(`upkeep.changes`). The open quarter stays listed, because more rows are coming.

Where the rows of a domain are the reason that something fails, it fails in each round. That is said, and the other
domains are kept in order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg
import structlog

from telemetry.errors import ConfigurationError, Unavailable
from telemetry.settings import Settings
from telemetry.spans import QUARTER
from telemetry.store import locks
from telemetry.store.engine import recorded_engine
from telemetry.store.failures import Failure, classify, in_words, is_about_rows
from telemetry.store.link import ANSWER_WITHIN_S
from telemetry.store.partitions import ensure_partitions
from telemetry.store.pool import connection
from telemetry.upkeep import changes, counters, retention, roll_ups
from telemetry.upkeep.cells import Cells
from telemetry.upkeep.watch import watched

log = structlog.get_logger()

OPEN_SHARE = 0.05
"""Part of the time that may go into keeping the open quarter's roll-ups fresh for dashboards (postgres engine)."""


_FAILURES = (Unavailable, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


@dataclass
class Round:
    """What one round of upkeep did."""

    leader: bool = True
    partitions_made: int = 0
    partitions_dropped: list[str] = field(default_factory=list)
    quarters_refreshed: int = 0
    counter_days_covered: int = 0
    quarantine_deleted: int = 0
    failed: list[str] = field(default_factory=list)
    """Domains of which something could not be done, for a reason that stays."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Rounds of upkeep until told to stop; while another process leads, it stands by.

    Raises:
        ConfigurationError: the database is not migrated, or a statement of ours is wrong.
    """
    while not stop.is_set():
        try:
            async with connection(settings, "maintain") as database:
                await _lead(database, settings, stop)
        except _FAILURES as error:
            if classify(error) is Failure.HALT:
                raise ConfigurationError(f"upkeep cannot go on: {error}") from error
            if is_about_rows(error):
                log.error(
                    "maintain_fails", detail="Rows keep upkeep from its work; it is tried again.", error=in_words(error)
                )
            else:
                log.warning(
                    "maintain_retry",
                    detail="The database is away; upkeep goes on when it is back.",
                    error=in_words(error),
                )
            await _pause(stop, settings.maintain.interval)


async def run_once(settings: Settings) -> Round:
    """One round, for scripts and tests; does nothing when another process leads."""
    async with connection(settings, "maintain") as database:
        if not await _is_leader(database):
            return Round(leader=False)
        async with watched(settings, database):
            return await Upkeep(database, settings).round()


async def _lead(database: asyncpg.Connection, settings: Settings, stop: asyncio.Event) -> None:
    upkeep = Upkeep(database, settings)
    leading = False
    while not stop.is_set():
        if not leading and await _is_leader(database):
            leading = True
            log.info("maintain_leads", detail="This process keeps the database in order.")
        if leading:
            async with watched(settings, database):
                done = await upkeep.round()
            if done != Round():
                log.debug("maintain_round", **vars(done))
        await _pause(stop, settings.maintain.interval)


async def _is_leader(database: asyncpg.Connection) -> bool:
    leader: bool = await database.fetchval("SELECT pg_try_advisory_lock($1)", locks.LEAD, timeout=ANSWER_WITHIN_S)
    return leader


async def _pause(stop: asyncio.Event, interval: timedelta) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), interval.total_seconds())


class Upkeep:
    """Rounds of upkeep over one connection that holds the leader's lock."""

    def __init__(self, database: asyncpg.Connection, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._next_open_refresh = 0.0
        self._said: set[tuple[str, str | None, str | None]] = set()

    async def round(self) -> Round:
        """Partitions, late ranges, retention, in this order, for every domain."""
        engine = await recorded_engine(self._database)
        if engine is None:
            raise ConfigurationError("the database has no tables yet; run `telemetry db migrate`")
        done = Round()
        domains = [
            row["name"] for row in await self._database.fetch("SELECT name FROM telemetry_domains ORDER BY name")
        ]
        if engine == "postgres":
            for domain in domains:
                with self._going_on(domain, done):
                    done.partitions_made += await self._partitions_ahead(domain)
        now = datetime.now(UTC)
        closed, closed_until = now - QUARTER, changes.closed_before(now, self._settings.maintain.closes_after)
        refresh = roll_ups.refresh_timescaledb if engine == "timescaledb" else roll_ups.refresh_postgres
        for domain in domains:
            with self._going_on(domain, done):
                done.quarters_refreshed += await refresh(self._database, domain, closed, closed_until)
                done.counter_days_covered += await counters.extend(self._database, domain)
        if engine == "postgres":
            await self._refresh_open(domains, closed, done)
        before = now - self._settings.retention.readings
        for domain in domains:
            with self._going_on(domain, done):
                done.partitions_dropped += await retention.drop(self._database, engine, domain, before, now)
        await changes.forget(self._database, before)
        done.quarantine_deleted = await self._delete_what_was_noted()
        return done

    @contextmanager
    def _going_on(self, domain: str, done: Round) -> Iterator[None]:
        """Says once what is wrong with the rows of a domain, and lets the round go on without that part of it."""
        try:
            yield
        except asyncpg.PostgresError as error:
            if not is_about_rows(error):
                raise
            if domain not in done.failed:
                done.failed.append(domain)
            what = domain, error.sqlstate, error.table_name
            if what not in self._said:
                self._said.add(what)
                log.error(
                    "maintain_fails",
                    detail="Rows of this domain keep upkeep from its work; somebody has to put them right.",
                    domain=domain,
                    error=str(error),
                    sqlstate=error.sqlstate,
                )

    async def _partitions_ahead(self, domain: str) -> int:
        today = datetime.now(UTC).date()
        days = [today + timedelta(days=ahead) for ahead in range(self._settings.maintain.partitions_ahead + 1)]
        return await ensure_partitions(self._database, domain, days)

    async def _refresh_open(self, domains: Iterable[str], closed: datetime, done: Round) -> None:
        """Keeps the open quarter visible in the roll-ups, as seldom as its cost demands; its entries stay listed."""
        began = time.monotonic()
        if began < self._next_open_refresh:
            return
        for domain in domains:
            quarters = await roll_ups.listed_quarters(self._database, domain, after=closed)
            cells = await Cells.around(self._database, domain, quarters)
            with self._going_on(domain, done):
                await roll_ups.recompute(self._database, domain, cells)
        self._next_open_refresh = time.monotonic() + (time.monotonic() - began) / OPEN_SHARE

    async def _delete_what_was_noted(self) -> int:
        """Clocks and quarantine are kept equally long; returns how many entries of quarantine are deleted."""
        before = datetime.now(UTC) - self._settings.retention.quarantine
        await self._database.execute("DELETE FROM device_clocks WHERE seen_at < $1", before)
        tag = await self._database.execute("DELETE FROM quarantine WHERE received_at < $1", before)
        return int(tag.rpartition(" ")[2])
