"""Connections to PostgreSQL, and what their failures mean in plain words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg

from telemetry.errors import ConfigurationError, Unavailable
from telemetry.settings import Settings

APPLICATION = "telemetry"
QUESTIONS = {
    # Compiling takes longer than questions run.
    "jit": "off",
    # What a question is about decides how it is best answered. A plan made for any device and any time has cost one
    # meter's day thirty times its time.
    "plan_cache_mode": "force_custom_plan",
}
"""Server settings of connections that ask."""

_SERVER_SETTINGS = {
    "timezone": "UTC",
    # A client that vanished keeps its locks until the server notices: within half a minute, not after two hours.
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


async def connect(settings: Settings, purpose: str = "", *, answer_within_s: float | None = None) -> asyncpg.Connection:
    """One connection; `purpose` is shown in `pg_stat_activity`.

    Args:
        answer_within_s: a statement that takes longer raises TimeoutError; none = each may take its time.

    Raises:
        Unavailable: the server does not answer now.
        ConfigurationError: it answers, but the URL, user, password or database is wrong.
    """
    url = settings.database.url.get_secret_value()
    try:
        return await asyncpg.connect(
            url,
            timeout=settings.database.connect_timeout.total_seconds(),
            command_timeout=answer_within_s,
            server_settings=_SERVER_SETTINGS | {"application_name": f"{APPLICATION} {purpose}".strip()},
        )
    except (ValueError, asyncpg.ClientConfigurationError) as error:
        raise ConfigurationError(f"database.url is no PostgreSQL URL: {error}") from None
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise ConfigurationError(f"the database at {address(url)} refuses us: {error}; see database.url") from error
    except (TimeoutError, OSError, asyncpg.PostgresError) as error:
        raise Unavailable(
            f"the database at {address(url)} cannot be reached: {error or 'no answer in time'}"
        ) from error


@asynccontextmanager
async def connection(settings: Settings, purpose: str = "") -> AsyncIterator[asyncpg.Connection]:
    """A connection that is closed at the end of the block; errors as in `connect`."""
    opened = await connect(settings, purpose)
    try:
        yield opened
    finally:
        await opened.close()


async def create_pool(settings: Settings, purpose: str = "") -> asyncpg.Pool:
    """A pool of at most `database.pool_size` connections that ask, opened lazily, so also while the database is away.

    What a transaction sets ends with it and nothing else is set, so connections go back without a further message.
    """
    return await asyncpg.create_pool(
        settings.database.url.get_secret_value(),
        min_size=0,
        max_size=settings.database.pool_size,
        timeout=settings.database.connect_timeout.total_seconds(),
        server_settings=_SERVER_SETTINGS | QUESTIONS | {"application_name": f"{APPLICATION} {purpose}".strip()},
        reset=_reset,
    )


async def _reset(connection: asyncpg.Connection) -> None:
    if connection.is_in_transaction():
        await connection.reset()


def address(url: str) -> str:
    """Host, port and database of a connection URL, without user and password, for messages."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2] or 'localhost'}{parts.path}"
