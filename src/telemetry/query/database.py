"""What a question needs from a connection: one state of the database, for a limited time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

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
    finally:
        # A connection that was lost has nothing to end, and its own error tells more.
        if not connection.is_closed():
            await connection.execute("ROLLBACK")
