"""The one way into the tables: a batch is settled in one transaction, and only what has committed is acknowledged.

Nearly every batch is new data, so the writer is optimistic: it copies the rows straight into the tables. Where one of
them is there already, or the database refuses one, the transaction is rolled back and the batch is written with care
(`store.careful`). With the data go the quarantine, the late ranges, the ledger and the batch's id. The id answers the
question that a lost connection, or a killed process with a spool, leaves open: whether its COMMIT took place. Every new
connection therefore asks for the last id first, when no older connection of ours can commit any more.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeAlias
from uuid import UUID

import asyncpg
import structlog

from telemetry.settings import Settings
from telemetry.store import keys, locks, raw
from telemetry.store.allowance import Allowance, Choice
from telemetry.store.batch import DUPLICATE, RECEIVED, Batch, Quarantined
from telemetry.store.binary import POSTGRES_EPOCH_US
from telemetry.store.careful import store_carefully
from telemetry.store.copy import PATIENCE_S, Counts, Quarters, Stored, copy, store_new
from telemetry.store.failures import Failure, classify
from telemetry.store.layout import DAY_US, EPOCH, HOUR_US
from telemetry.store.link import Link, Occupied
from telemetry.store.partitions import ensure_partitions

log = structlog.get_logger()

Store: TypeAlias = Callable[[asyncpg.Connection, Batch], Awaitable[Stored]]

_QUARANTINE = ("received_at", "domain", "device_id", "reason", "detail", "topic", "payload", "position")

_ACCOUNT = """
WITH commits AS (
    INSERT INTO ingest_commits (worker, batch, committed_at) SELECT $1, $2, now() WHERE $9::uuid IS NULL
    ON CONFLICT (worker) DO UPDATE SET batch = excluded.batch, committed_at = excluded.committed_at
), places AS (
    INSERT INTO ingest_places (worker, place, batch, committed_at) SELECT $1, $9, $2, now() WHERE $9 IS NOT NULL
    ON CONFLICT (worker, place) DO UPDATE SET batch = excluded.batch, committed_at = excluded.committed_at
), late AS (
    INSERT INTO late_ranges (domain, bucket) SELECT * FROM unnest($3::text[], $4::timestamptz[])
)
INSERT INTO ledger (hour, domain, worker, outcome, readings)
SELECT $5, domain, $1, outcome, readings
FROM unnest($6::text[], $7::text[], $8::bigint[]) AS counts (domain, outcome, readings)
ON CONFLICT (hour, domain, worker, outcome) DO UPDATE SET readings = ledger.readings + excluded.readings
"""


class Writer:
    """Settles the batches of one worker, one after the other.

    Args:
        worker: name in the ledger; the client id of its MQTT session. Two processes of that name never write at once,
            but for what is acknowledged already: that is in one place only, and each place has one process.
        on_connect: called when keys of devices that are remembered may be wrong: with each new connection, and when a
            device was removed.
        allowance: how much of what is refused leaves its bytes in quarantine; that of the settings if None.

    Attributes:
        is_barred: whether the database was there at the last attempt, but another process writes under that name.
        place: where what is acknowledged is kept until it is written; None where nothing is. To be set before any call.
    """

    def __init__(
        self, settings: Settings, worker: str, on_connect: Callable[[], None], allowance: Allowance | None = None
    ) -> None:
        self._worker = worker
        self._allowance = allowance or Allowance(settings.ingest.quarantine_per_device)
        self._on_connect = on_connect
        self._registers = settings.ingest.unknown_devices == "auto"
        self._removals = 0
        self._raw_from_us: dict[str, int] = {}
        self._forgot_at = 0.0
        self._link = Link(settings, "ingest", self._prepare)
        self._days: set[tuple[str, int]] = set()
        self._in_doubt: tuple[UUID, Counts, Choice] | None = None
        self._committed: frozenset[UUID] = frozenset()
        self._expect_known = False
        self.is_barred = False
        self.place: UUID | None = None

    @property
    def is_away(self) -> bool:
        """Whether the database did not serve us at the last attempt."""
        return self._link.is_away

    async def known(self) -> frozenset[UUID]:
        """Waits until the database is there, whoever else writes under this worker's name (`is_barred`).

        Returns:
            The ids of the last batches that were committed under it when the connection was made, one of each place.
        """
        await self._link.call(_nothing)
        return self._committed

    async def open(self) -> None:
        """Waits until the database is there and no other process writes under this worker's name."""
        await self._link.call(self._require_name)

    async def write(self, batch: Batch) -> Counts:
        """Settles a batch; waits for the database as long as it takes. Returns what became of its readings.

        A batch that may have been committed before, by a process that was killed for instance, is recognised by its id
        when it is the last one that was from its place, and nothing is counted twice.

        Raises:
            ConfigurationError: a fault of ours that no patience cures; nothing of the batch is settled.
        """
        if not batch.received:
            return Counts()
        return await self._link.call(lambda database: self._settle(database, batch))

    def cut(self) -> None:
        """Breaks the connection off at once; whoever waits in `write` is to be cancelled, its outcome is open."""
        self._link.cut()

    async def close(self) -> None:
        """Closes the connection."""
        await self._link.close()

    async def _prepare(self, database: asyncpg.Connection) -> None:
        # After a failover it may be a server that knows less than the one before.
        self._days.clear()
        await database.set_type_codec(
            "timestamptz", schema="pg_catalog", encoder=_encode_time, decoder=_decode_time, format="tuple"
        )
        self._removals, self._raw_from_us = await _begin(database)
        self._forget()
        # A server that is set to forget commits in a crash must not do so with what we acknowledge.
        await database.execute(
            """
            SELECT set_config('synchronous_commit', 'on', false)
            WHERE current_setting('synchronous_commit') IN ('off', 'local')
            """
        )
        # By default TimescaleDB ends a transaction that decompresses 100,000 rows, and would do so at each repetition.
        await database.execute("SET timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
        if self.place is not None and not await _locked(database, locks.PLACE, f"{self._worker} {self.place}"):
            raise Occupied(f"the database still serves a process that had the spool of {self._worker} before")
        self.is_barred = not await _locked(database, locks.WORKER, self._worker)
        self._committed = frozenset(
            await database.fetchval(
                """
                SELECT coalesce(array_agg(batch), '{}') FROM (
                    SELECT batch FROM ingest_commits WHERE worker = $1
                    UNION ALL SELECT batch FROM ingest_places WHERE worker = $1
                ) AS last
                """,
                self._worker,
            )
        )

    async def _require_name(self, database: asyncpg.Connection) -> None:
        """Makes sure that no other process writes under our name; where one did, it may have ended since."""
        if self.is_barred:
            self.is_barred = not await _locked(database, locks.WORKER, self._worker)
        if self.is_barred:
            raise Occupied(
                f"another process ingests as {self._worker}; this one waits until it ends. If both are meant to work, "
                "give each an mqtt.client_id of its own"
            )

    def _forget(self) -> None:
        """Has the keys of devices looked up anew; batches that were begun before are looked at once more."""
        self._on_connect()
        self._forgot_at = time.monotonic()

    async def _settle(self, database: asyncpg.Connection, batch: Batch) -> Counts:
        try:
            await self._require_name(database)
        except Occupied:
            # What is acknowledged would reach the database in no other way.
            if not batch.acknowledged:
                raise
        if (counts := self._committed_before(batch)) is not None:
            return counts
        quarters = self._refuse_older(batch, list(batch.quarters()))
        if not self._expect_known and not batch.repeats:
            await self._ensure_partitions(database, quarters)
            try:
                return await self._transaction(database, batch, quarters, store_new)
            except Exception as error:
                if classify(error) is not Failure.ROW:
                    raise
            # What the attempt found to be gone was refused.
            quarters = self._refuse_older(batch, list(batch.quarters()))
        # With care, a row that has no partition is refused; and one that is remembered may be gone.
        self._days.clear()
        await self._ensure_partitions(database, quarters)
        counts = await self._transaction(database, batch, quarters, store_carefully)
        # Redelivery after a crash comes in many batches; there is no use in failing on each of them first.
        self._expect_known = any(outcome == DUPLICATE for _, outcome in counts)
        return counts

    def _committed_before(self, batch: Batch) -> Counts | None:
        """The counts of a batch whose COMMIT took place although its answer was lost; none where they are forgotten."""
        in_doubt, self._in_doubt = self._in_doubt, None
        if batch.id not in self._committed:
            return None
        if in_doubt is None or in_doubt[0] != batch.id:
            return Counts()
        _, counts, choice = in_doubt
        self._allowance.charge(choice)
        return counts

    async def _ensure_partitions(self, database: asyncpg.Connection, quarters: Quarters) -> None:
        days = {(domain, quarter // DAY_US) for domain, quarter in quarters}
        for domain, day in days - self._days:
            try:
                await ensure_partitions(database, domain, [(EPOCH + timedelta(days=day)).date()])
            except asyncpg.CheckViolationError as error:
                # Somebody has added a default partition, which has rows of that day already: it takes ours as well.
                log.warning("partition_missing", detail="A partition cannot be made.", domain=domain, error=str(error))
            self._days.add((domain, day))

    def _refuse_older(self, batch: Batch, quarters: Quarters) -> Quarters:
        """Refuses readings from before those that are kept; returns the quarters of those that are left."""
        since = self._raw_from_us
        if not any(domain in since and quarter < since[domain] for domain, quarter in quarters):
            return quarters
        raw.refuse_older(batch, since)
        return list(batch.quarters())

    async def _transaction(
        self, database: asyncpg.Connection, batch: Batch, quarters: Quarters, store: Store
    ) -> Counts:
        transaction = database.transaction()
        await transaction.start()
        try:
            quarters = await self._begin_batch(database, batch, quarters)
            counts, refused, touched = await store(database, batch)
            refused = [*batch.refused, *refused]
            for each in refused:
                counts[each.domain, each.reason] += 1
            for (domain, _, reason), readings in batch.not_kept.items():
                counts[domain, reason] += readings
            for domain, received in batch.received.items():
                counts[domain, RECEIVED] += received
            counts = +counts  # without those that are 0
            choice = self._allowance.choose(refused, batch.received_us)
            for (domain, device_id, _), readings in batch.not_kept.items():
                choice.left_out[domain, device_id] += readings
            await self._account(database, batch, quarters if touched is None else touched, counts, choice.kept)
        except BaseException as error:
            # Where it is no fault of a row the connection is given up, and a rollback could wait for a dead server.
            if classify(error) is not Failure.RETRY and not database.is_closed():
                await transaction.rollback()
            raise
        self._in_doubt = batch.id, counts, choice
        await transaction.commit()
        self._in_doubt = None
        self._allowance.charge(choice)
        return counts

    async def _begin_batch(self, database: asyncpg.Connection, batch: Batch, quarters: Quarters) -> Quarters:
        """Makes sure that devices and raw readings are as the batch takes them to be, and stay so until the end.

        Returns the quarters that the batch touches then.
        """
        removals, self._raw_from_us = await _begin(database)
        if removals != self._removals:
            self._removals = removals
            self._forget()
        if batch.began <= self._forgot_at:
            await keys.renew(database, batch, register=self._registers)
            quarters = list(batch.quarters())
        return self._refuse_older(batch, quarters)

    async def _account(
        self,
        database: asyncpg.Connection,
        batch: Batch,
        quarters: Quarters,
        counts: Counts,
        kept: list[Quarantined],
    ) -> None:
        if kept:
            await copy(database, "quarantine", _QUARANTINE, kept)
        entries = sorted(counts.items())
        await database.execute(
            _ACCOUNT,
            self._worker,
            batch.id,
            [domain for domain, _ in quarters],
            [quarter for _, quarter in quarters],
            batch.received_us // HOUR_US * HOUR_US,
            [domain for (domain, _), _ in entries],
            [outcome for (_, outcome), _ in entries],
            [readings for _, readings in entries],
            self.place,
            timeout=PATIENCE_S,
        )


async def _begin(database: asyncpg.Connection) -> tuple[int, dict[str, int]]:
    """How often devices were removed, and by domain from when on raw readings are kept; both stay so until the end."""
    row = await database.fetchrow("SELECT * FROM telemetry_begin_batch()", timeout=PATIENCE_S)
    assert row is not None
    removals, domains, raw_from_us = row
    return removals, dict(zip(domains or (), raw_from_us or (), strict=True))


def _encode_time(us: int) -> tuple[int]:
    return (us - POSTGRES_EPOCH_US,)


def _decode_time(value: tuple[int]) -> int:
    return value[0] + POSTGRES_EPOCH_US


async def _locked(database: asyncpg.Connection, kind: int, name: str) -> bool:
    """Whether the connection has that lock, for as long as it lasts."""
    has: bool = await database.fetchval("SELECT pg_try_advisory_lock($1, hashtext($2))", kind, name)
    return has


async def _nothing(database: asyncpg.Connection) -> None:
    """Work that only needs the connection to be there."""
