"""What the server process of ingest is doing at this moment, as PostgreSQL tells it."""

from __future__ import annotations

import asyncio
import signal
from typing import Final, Literal, TypeAlias

import asyncpg

from tests.faults.process import IngestProcess

Phase: TypeAlias = Literal["reading", "COPY", "transaction", "commit"]

PHASES: Final[tuple[Phase, ...]] = ("reading", "COPY", "transaction", "commit")
"""Between two transactions; within one while rows are copied, around that, and at its end."""

_BACKEND = """
SELECT state, query FROM pg_stat_activity
WHERE application_name = 'telemetry ingest' AND datname = current_database()
"""
"""The writer's connection; those for devices, sessions and accounts have longer names and are idle nearly always."""


async def phase(database: asyncpg.Connection) -> Phase | None:
    """Where the writer stands; None while there is none."""
    row = await database.fetchrow(_BACKEND)
    if row is None or row["state"] is None:
        return None
    if row["state"] == "active":
        return "COPY" if row["query"].startswith("COPY") else "commit" if _ends(row["query"]) else "transaction"
    return "transaction" if row["state"].startswith("idle in transaction") else "reading"


async def freeze_in(wanted: Phase, process: IngestProcess, database: asyncpg.Connection, within_s: float) -> bool:
    """Stops the process (SIGSTOP) while its writer stands there; False when the moment did not come in time.

    A process that is stopped sends nothing more, so a COPY that it is amid stays one.
    """
    deadline = asyncio.get_running_loop().time() + within_s
    while asyncio.get_running_loop().time() < deadline and process.alive:
        if await phase(database) == wanted:
            await process.freeze()
            if await phase(database) == wanted:
                return True
            process.send(signal.SIGCONT)
        await asyncio.sleep(0)
    return False


def _ends(query: str) -> bool:
    return query.upper().startswith("COMMIT")
