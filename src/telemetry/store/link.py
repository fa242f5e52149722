"""A connection that is made anew when it is lost, for processes that wait for the database instead of giving up."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

import asyncpg
import structlog

from telemetry.errors import ConfigurationError, Unavailable
from telemetry.settings import Settings
from telemetry.store.failures import Failure, classify, in_words
from telemetry.store.pool import close, connect

log = structlog.get_logger()

Result = TypeVar("Result")
Work = Callable[[asyncpg.Connection], Awaitable[Result]]

ANSWER_WITHIN_S = 60.0
"""A network that swallows everything ends no connection: a server that says nothing for so long, be it to a BEGIN, a
COMMIT or a ROLLBACK, is given up, and the work is repeated over a new connection."""

_REFUSALS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_WARN_EVERY_S = 60.0


class Occupied(Unavailable):
    """Another process does this work; ours begins when that one ends."""


class Link:
    """One connection and the patience to get it back.

    Args:
        purpose: shown in `pg_stat_activity` and in the log.
        prepare: what a new connection needs before it can be used.
        answer_within_s: how long a statement may take before the server is given up.
    """

    def __init__(
        self,
        settings: Settings,
        purpose: str,
        prepare: Work[None] | None = None,
        *,
        answer_within_s: float = ANSWER_WITHIN_S,
    ) -> None:
        self._settings = settings
        self._answer_within_s = answer_within_s
        self._purpose = purpose
        self._prepare = prepare
        self._connection: asyncpg.Connection | None = None
        self._backend: tuple[int, str] | None = None
        self._next_warning = 0.0
        self._is_cut = False
        self._trouble: Literal["database_away", "stands_by"] | None = None
        self._since = 0.0

    async def call(self, work: Work[Result]) -> Result:
        """Does work over the connection, again and again until the database is there for it.

        The work must bear repetition: it may have been done in part, or in full with its answer lost.

        Raises:
            ConfigurationError: the database refuses the work, and no patience cures it.
            Exception: what else the work raises, as it is.
        """
        task = asyncio.current_task()
        assert task is not None
        cancelled_before = task.cancelling()
        pause = _FIRST_PAUSE_S
        while True:
            self._is_cut = False
            try:
                result = await work(await self._connected())
            except Exception as error:
                self._drop()
                if task.cancelling() > cancelled_before:
                    # The rollback that it led to has failed, for the server is gone; it must not take its place.
                    raise asyncio.CancelledError from error
                self._note(error)
            else:
                self._over()
                return result
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - many processes must not knock at once
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    @property
    def is_away(self) -> bool:
        """Whether the database did not serve us at the last attempt."""
        return self._trouble == "database_away"

    def cut(self) -> None:
        """Breaks the connection off at once: what waits for the server fails, also where it has stopped answering."""
        self._is_cut = True
        self._drop()

    async def close(self) -> None:
        """Closes the connection; a later call opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await close(connection)

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        connection = await connect(self._settings, self._purpose, answer_within_s=self._answer_within_s)
        try:
            await self._end_predecessor(connection)
            if self._prepare is not None:
                await self._prepare(connection)
            self._backend = await _backend(connection)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        return connection

    async def _end_predecessor(self, connection: asyncpg.Connection) -> None:
        """Ends our last server process where it still lives: cut off from us, it would keep its locks for hours."""
        if self._backend is not None:
            await connection.execute(
                """
                SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
                WHERE pid = $1 AND backend_start::text = $2
                """,
                *self._backend,
            )

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def _note(self, error: Exception) -> None:
        # Under a connection that we cut ourselves, asyncpg may fail with anything.
        if not self._is_cut and (isinstance(error, ConfigurationError) or classify(error) is not Failure.RETRY):
            if isinstance(error, _REFUSALS):
                raise ConfigurationError(f"the database refuses what {self._purpose} asks of it: {error}") from error
            # An error of ours says all that is to be said; with any other one the trace is what is wanted.
            raise error
        now = time.monotonic()
        trouble: Literal["database_away", "stands_by"] = "stands_by" if isinstance(error, Occupied) else "database_away"
        if trouble != self._trouble:
            self._over()
            self._trouble, self._since = trouble, now
        if now >= self._next_warning:
            self._next_warning = now + _WARN_EVERY_S
            if trouble == "stands_by":
                log.warning(trouble, detail=str(error), purpose=self._purpose)
                return
            log.warning(
                trouble,
                detail="The database does not serve us; the work is repeated until it does.",
                purpose=self._purpose,
                error=in_words(error),
            )

    def _over(self) -> None:
        """What kept us from work does not any more; a database that was never away has not come back."""
        trouble, self._trouble, self._next_warning = self._trouble, None, 0.0
        seconds = round(time.monotonic() - self._since, 1)
        if trouble == "database_away":
            log.info("database_back", detail="The database serves us.", purpose=self._purpose, seconds=seconds)
        elif trouble == "stands_by":
            log.info("takes_over", detail="No other process is in the way now.", purpose=self._purpose, seconds=seconds)


async def _backend(connection: asyncpg.Connection) -> tuple[int, str]:
    row = await connection.fetchrow(
        "SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    )
    assert row is not None
    return row["pid"], row["backend_start"]
