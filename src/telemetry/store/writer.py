"""The one way into the tables: a batch is settled in one transaction, and only what has committed is acknowledged.

Nearly every batch is new data, so the writer is optimistic: it copies the rows straight into the tables. Where one of
them is there already, or the database refuses one, the transaction is rolled back and the batch is written with care
(`store.careful`). With the data go the quarantine, the late ranges, the ledger and the batch's id. The id answers the
question that a lost connection leaves open: whether its COMMIT took place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeAlias

import asyncpg

from telemetry.errors import Unavailable
from telemetry.settings import Settings
from telemetry.store.batch import DUPLICATE, RECEIVED, Batch, Quarantined
from telemetry.store.careful import store_carefully
from telemetry.store.copy import PATIENCE_S, Counts, copy, store_new
from telemetry.store.failures import Failure, classify
from telemetry.store.layout import EPOCH, HOUR_US
from telemetry.store.link import Link
from telemetry.store.maintain import ensure_partitions

Store: TypeAlias = Callable[[asyncpg.Connection, Batch], Awaitable[tuple[Counts, list[Quarantined]]]]

_POSTGRES_EPOCH_US: Final = 946_684_800 * 1_000_000
_LOCKS: Final = 0x7E1E_0003
"""First key of the advisory locks by client id."""
_QUARANTINE = ("received_at", "domain", "device_id", "reason", "detail", "topic", "payload", "position")

_ACCOUNT = """
WITH commits AS (
    INSERT INTO ingest_commits (worker, batch, committed_at) VALUES ($1, $2, now())
    ON CONFLICT (worker) DO UPDATE SET batch = excluded.batch, committed_at = excluded.committed_at
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
        worker: name in the ledger; the client id of its MQTT session. Two processes of that name never write at once.
        on_connect: called with each new connection, when what is remembered of the database may be wrong.
    """

    def __init__(self, settings: Settings, worker: str, on_connect: Callable[[], None]) -> None:
        self._worker = worker
        self._on_connect = on_connect
        self._link = Link(settings, "ingest", self._prepare)
        self._days: set[tuple[str, int]] = set()
        self._in_doubt: tuple[Batch, Counts] | None = None
        self._expect_known = False

    async def open(self) -> None:
        """Waits until the database is there and no other process writes under this worker's name."""
        await self._link.call(_nothing)

    async def write(self, batch: Batch) -> Counts:
        """Settles a batch; waits for the database as long as it takes. Returns what became of its readings.

        Raises:
            ConfigurationError: a fault of ours that no patience cures; nothing of the batch is settled.
        """
        return await self._link.call(lambda database: self._settle(database, batch))

    async def close(self) -> None:
        """Closes the connection."""
        await self._link.close()

    async def _prepare(self, database: asyncpg.Connection) -> None:
        # After a failover it may be a server that knows less than the one before.
        self._days.clear()
        self._on_connect()
        await database.set_type_codec(
            "timestamptz", schema="pg_catalog", encoder=_encode_time, decoder=_decode_time, format="tuple"
        )
        # A server that is set to forget commits in a crash must not do so with what we acknowledge.
        await database.execute(
            """
            SELECT set_config('synchronous_commit', 'on', false)
            WHERE current_setting('synchronous_commit') IN ('off', 'local')
            """
        )
        if not await database.fetchval("SELECT pg_try_advisory_lock($1, hashtext($2))", _LOCKS, self._worker):
            raise Unavailable(
                f"another process ingests as {self._worker}; stop it, or give this one an mqtt.client_id of its own"
            )

    async def _settle(self, database: asyncpg.Connection, batch: Batch) -> Counts:
        if (counts := await self._committed_before(database, batch)) is not None:
            return counts
        await self._ensure_partitions(database, batch)
        if not self._expect_known:
            try:
                return await self._transaction(database, batch, store_new)
            except Exception as error:
                if classify(error) is not Failure.ROW:
                    raise
        counts = await self._transaction(database, batch, store_carefully)
        # Redelivery after a crash comes in many batches; there is no use in failing on each of them first.
        self._expect_known = any(outcome == DUPLICATE for _, outcome in counts)
        return counts

    async def _committed_before(self, database: asyncpg.Connection, batch: Batch) -> Counts | None:
        """The counts of a batch whose COMMIT took place although its answer was lost."""
        if self._in_doubt is None:
            return None
        committed = await database.fetchval("SELECT batch FROM ingest_commits WHERE worker = $1", self._worker)
        (doubtful, counts), self._in_doubt = self._in_doubt, None
        return counts if doubtful is batch and committed == batch.id else None

    async def _ensure_partitions(self, database: asyncpg.Connection, batch: Batch) -> None:
        for domain, day in set(batch.days()) - self._days:
            await ensure_partitions(database, domain, [(EPOCH + timedelta(days=day)).date()])
            self._days.add((domain, day))

    async def _transaction(self, database: asyncpg.Connection, batch: Batch, store: Store) -> Counts:
        transaction = database.transaction()
        await transaction.start()
        try:
            counts, refused = await store(database, batch)
            refused = [*batch.refused, *refused]
            for each in refused:
                counts[each.domain, each.reason] += 1
            for domain, received in batch.received.items():
                counts[domain, RECEIVED] += received
            counts = +counts  # without those that are 0
            await self._account(database, batch, counts, refused)
        except BaseException as error:
            # Where it is no fault of a row the connection is given up, and a rollback could wait for a dead server.
            if classify(error) is not Failure.RETRY and not database.is_closed():
                await transaction.rollback()
            raise
        self._in_doubt = batch, counts
        await transaction.commit()
        self._in_doubt = None
        return counts

    async def _account(
        self, database: asyncpg.Connection, batch: Batch, counts: Counts, refused: list[Quarantined]
    ) -> None:
        if refused:
            await copy(database, "quarantine", _QUARANTINE, refused)
        quarters = list(batch.quarters())
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
            timeout=PATIENCE_S,
        )


def _encode_time(us: int) -> tuple[int]:
    return (us - _POSTGRES_EPOCH_US,)


def _decode_time(value: tuple[int]) -> int:
    return value[0] + _POSTGRES_EPOCH_US


async def _nothing(database: asyncpg.Connection) -> None:
    """Work that only needs the connection to be there."""
