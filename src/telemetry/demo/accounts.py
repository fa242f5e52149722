"""The accounts of a demo, from the database: what the ledger says, and what the tables hold."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from telemetry.simulate.device import SimulatedDevice

_MARGIN = timedelta(seconds=5)
"""For the time that passes until the simulator looks at its clock."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Readings in the words of the ledger."""

    received: int = 0
    stored: int = 0
    merged: int = 0
    duplicate: int = 0
    quarantined: int = 0

    def __sub__(self, before: Totals) -> Totals:
        return Totals(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    @property
    def imbalance(self) -> int:
        """What went in and came out nowhere: 0, or the promise is broken."""
        return self.received - self.stored - self.duplicate - self.quarantined


@dataclass(frozen=True, slots=True)
class Accounts:
    """The ledger's totals and the number of rows in the table, by domain, at one instant."""

    ledger: Mapping[str, Totals]
    rows: Mapping[str, int]

    def of(self, domain: str) -> tuple[Totals, int]:
        """Ledger and rows of a domain, zero where nothing has arrived yet."""
        return self.ledger.get(domain, Totals()), self.rows.get(domain, 0)


async def ledger(database: asyncpg.Connection) -> dict[str, Totals]:
    """The ledger's totals by domain over all hours."""
    rows = await database.fetch(
        """
        SELECT domain, sum(received)::bigint AS received, sum(stored)::bigint AS stored, sum(merged)::bigint AS merged,
               sum(duplicate)::bigint AS duplicate, sum(quarantined)::bigint AS quarantined
        FROM ledger_hourly
        GROUP BY domain
        """
    )
    return {domain: Totals(*totals) for domain, *totals in rows}


async def accounts(database: asyncpg.Connection, domains: Iterable[str]) -> Accounts:
    """Ledger and tables as one snapshot."""
    async with database.transaction(isolation="repeatable_read", readonly=True):
        totals = await ledger(database)
        rows = {domain: await database.fetchval(f"SELECT count(*) FROM {domain}_readings") for domain in domains}  # noqa: S608
    return Accounts(totals, rows)


async def settled(database: asyncpg.Connection, pause_s: float = 0.5) -> None:
    """Waits until the ledger stands still: what an earlier demo left in the broker's queue has been taken in."""
    before = await ledger(database)
    while True:
        await asyncio.sleep(pause_s)
        now = await ledger(database)
        if now == before:
            return
        before = now


async def missing_past(database: asyncpg.Connection, fleet: Sequence[SimulatedDevice], at_most: timedelta) -> timedelta:
    """How far back the city has to be filled in so that every device is there without a gap.

    It is counted from the device that fell silent first, so a backfill that was interrupted is completed, too.
    """
    now = datetime.now(UTC)
    first = now
    for domain in {device.domain for device in fleet}:
        last = await database.fetchval(
            f"""
            SELECT min(coalesce((SELECT max(time) FROM {domain}_readings AS r
                                 WHERE r.device_key = d.device_key AND r.time BETWEEN $2 AND $3), $2))
            FROM devices AS d
            WHERE d.device_id = ANY($1::text[])
            """,  # noqa: S608 - the domains are the simulator's own
            [device.device_id for device in fleet if device.domain == domain],
            now - at_most,
            now,
        )
        first = min(first, last or now - at_most)
    return now - first + _MARGIN if first < now else timedelta(0)
