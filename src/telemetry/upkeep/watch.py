"""Whether the server still works for a connection that waits: long work is no reason to give it up, silence is.

A refresh of roll-ups may take hours, so no limit of time tells a dead connection from a busy one. TCP tells it where
the peer is gone. Something in between, a proxy for instance, may go on to answer for a server that is not behind it any
more; so the server is asked over another connection what it does for the first one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg
import structlog

from telemetry.errors import TelemetryError
from telemetry.settings import Settings
from telemetry.store.link import ANSWER_WITHIN_S
from telemetry.store.pool import connection

log = structlog.get_logger()

LOOK_EVERY_S = 30.0
"""How often is looked. Who waits for us at two looks, and has done nothing in between, has forgotten us."""

_SELF = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
# Not `state`: a server process that was asked to prepare a statement is active, also when it waits for what follows.
_WAITS = """
SELECT CASE WHEN wait_event_type = 'Client' THEN state_change END AS since FROM pg_stat_activity
WHERE pid = $1 AND backend_start = $2
"""
_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"


@asynccontextmanager
async def watched(settings: Settings, database: asyncpg.Connection) -> AsyncIterator[None]:
    """Breaks the connection off when the server waits for us while the block waits for the server.

    Between two statements the block must not rest for as long as `LOOK_EVERY_S`.
    """
    row = await database.fetchrow(_SELF, timeout=ANSWER_WITHIN_S)
    assert row is not None
    watching = asyncio.create_task(_watch(settings, database, row["pid"], row["backend_start"]), name="watch")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})


async def _watch(settings: Settings, database: asyncpg.Connection, pid: int, began: datetime) -> None:
    waited: datetime | None = None
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        before = waited
        try:
            async with connection(settings, "watch", answer_within_s=LOOK_EVERY_S) as other:
                row = await other.fetchrow(_WAITS, pid, began)
                waited = None if row is None else row["since"]
                if row is not None and (waited is None or waited != before):
                    continue
                # It may hold locks that a new connection is going to need.
                await other.execute(_END, pid, began)
        except (TelemetryError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            waited = None  # the server answers nobody, and that is for TCP to judge
            continue
        log.warning(
            "database_forgot_us", detail="The server does not work for a connection of ours that waits.", pid=pid
        )
        database.terminate()
        return
