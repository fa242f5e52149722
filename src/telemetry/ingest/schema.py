"""The start waits for a database that has our tables."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from telemetry.errors import ConfigurationError, Unavailable
from telemetry.ingest.tasks import end
from telemetry.settings import Settings
from telemetry.store.failures import Failure, classify, in_words
from telemetry.store.migrate import check

log = structlog.get_logger()

_RETRY_S: Final = 1.0
_ANSWER_WITHIN_S: Final = 60.0
"""A network that swallows everything would keep the start waiting for ever."""


async def wait_for_schema(settings: Settings) -> None:
    """Waits for the database, and makes sure that it has our tables.

    Raises:
        ConfigurationError: it has not, or it refuses us.
    """
    waits = False
    try:
        while True:
            try:
                problems = await _checked(settings)
            except Exception as error:
                if classify(error) is not Failure.RETRY:
                    raise
                if not waits:
                    waits = True
                    _waiting.begin(error)
                await asyncio.sleep(_RETRY_S)
            else:
                if problems:
                    raise ConfigurationError("\n".join(problems))
                return
    finally:
        if waits:
            _waiting.end()


class _Waiting:
    """Those of this process that wait; several sessions may begin at once, and one line tells of all."""

    def __init__(self) -> None:
        self._number = 0

    def begin(self, error: Exception) -> None:
        """One more waits."""
        if not self._number:
            log.warning("database_away", detail="The database does not serve us; ingest waits.", error=in_words(error))
        self._number += 1

    def end(self) -> None:
        """One fewer does."""
        self._number -= 1


_waiting = _Waiting()


async def _checked(settings: Settings) -> list[str]:
    checking = asyncio.create_task(check(settings), name="check")
    try:
        await asyncio.wait({checking}, timeout=_ANSWER_WITHIN_S)
    finally:
        await end(checking)
    if checking.cancelled():
        raise Unavailable(f"the database has not answered for {_ANSWER_WITHIN_S:.0f} s")
    return checking.result()
