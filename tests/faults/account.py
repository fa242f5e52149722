"""The account of a case: what the publisher's books say against what the database holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import asyncpg

from tests.faults.publisher import DOMAIN, Key, Publisher
from tests.support.ingesting import outcomes

KEPT = ("received", "stored", "merged", "duplicate")
"""Outcomes in the ledger that are no reasons of quarantine."""

_ROWS = f"""
SELECT device_id, energy_import_kwh::bigint AS sequence, count(*) AS rows
FROM {DOMAIN}_readings JOIN devices USING (device_key)
GROUP BY device_id, sequence
"""


@dataclass
class Account:
    """Counts of messages, each of one reading.

    Attributes:
        published, acked: by the publisher's books; acked is what the broker answers for.
        stored: messages that have a row.
        duplicate, quarantined: by the ledger; a message that is delivered again counts again.
        lost: acknowledged to the publisher, and neither stored nor in quarantine.
        doubled: rows beyond the first of a message.
        faults: what else does not fit together.
        note: what shows that the fault was there.
        ledger: readings by outcome.
    """

    published: int
    acked: int
    stored: int
    duplicate: int
    quarantined: int
    lost: int
    doubled: int
    faults: list[str]
    ledger: Counter[str]
    case: str = ""
    engine: str = ""
    note: str = ""
    seconds: float = field(default=0.0)

    def assert_kept(self) -> None:
        """Fails where the promise was broken."""
        assert (self.lost, self.doubled, self.faults) == (0, 0, []), self


async def take_account(database: asyncpg.Connection, publisher: Publisher) -> Account:
    """Compares the books with the database; ingest must have come to rest."""
    good = publisher.good
    rows = {(row["device_id"], row["sequence"]): row["rows"] for row in await database.fetch(_ROWS)}
    ledger = await outcomes(database)
    quarantined = sum(
        n for outcome, n in ledger.items() if outcome not in ("received", "stored", "merged", "duplicate")
    )
    bad = publisher.acked & publisher.refused.keys()
    return Account(
        published=len(publisher.published),
        acked=len(publisher.acked),
        stored=len(rows.keys() & publisher.published),
        duplicate=ledger["duplicate"],
        quarantined=quarantined,
        lost=len(good - rows.keys()) + max(0, len(bad) - quarantined),
        doubled=sum(rows.values()) - len(rows),
        faults=[fault async for fault in _faults(database, publisher, rows, ledger)],
        ledger=ledger,
    )


async def _faults(
    database: asyncpg.Connection, publisher: Publisher, rows: dict[Key, int], ledger: Counter[str]
) -> AsyncIterator[str]:
    if invented := rows.keys() - (publisher.published - publisher.refused.keys()):
        yield f"{len(invented)} rows that nobody published"
    if (stored := ledger["stored"] - ledger["merged"]) != sum(rows.values()):
        yield f"the ledger says {stored} rows were stored, the table has {sum(rows.values())}"
    if imbalance := await database.fetchval("SELECT count(*) FROM ledger_hourly WHERE imbalance <> 0"):
        yield f"{imbalance} hours of the ledger do not balance"
