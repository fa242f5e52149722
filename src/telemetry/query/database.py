"""What a question needs from a connection: one state of the database, for a limited time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

_END_WITHIN_S = 5.0

Connection: TypeAlias = "asyncpg.Connection | PoolConnectionProxy"


@asynccontextmanager
async def snapshot(connection: Connection, statement_timeout: timedelta) -> AsyncIterator[Connection]:
    """A read-only transaction in which every statement sees the same state: roll-ups, raw rows and what is stale.

    It begins with one message and ends with one, because each costs as long as a small question.
    """
    milliseconds = max(1, int(statement_timeout / timedelta(milliseconds=1)))
    await connection.execute(
        f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {milliseconds}"
    )
    try:
        yield connection
    except TimeoutError:
        # The server says nothing, not even that it ends a statement; it would say nothing to this either.
        connection.terminate()
        raise
    finally:
        await _end(connection)


async def _end(connection: Connection) -> None:
    try:
        # A connection that was lost has nothing to end, and its own error tells more.
        if not connection.is_closed():
            await connection.execute("ROLLBACK", timeout=_END_WITHIN_S)
    except TimeoutError:
        connection.terminate()
    except asyncpg.InterfaceError:
        # It was given up, and is the pool's again.
        return
