"""The start waits for a database that has our tables."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from telemetry.errors import ConfigurationError
from telemetry.settings import Settings
from telemetry.store.failures import Failure, classify
from telemetry.store.migrate import check

log = structlog.get_logger()

_RETRY_S: Final = 1.0


async def wait_for_schema(settings: Settings) -> None:
    """Waits for the database, and makes sure that it has our tables.

    Raises:
        ConfigurationError: it has not, or it refuses us.
    """
    warned = False
    while True:
        try:
            problems = await check(settings)
        except Exception as error:
            if classify(error) is not Failure.RETRY:
                raise
            if not warned:
                log.warning("database_away", detail="The database does not serve us; ingest waits.", error=str(error))
            warned = True
            await asyncio.sleep(_RETRY_S)
        else:
            if problems:
                raise ConfigurationError("\n".join(problems))
            return
