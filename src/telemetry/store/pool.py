"""Connections to PostgreSQL, and what their failures mean in plain words."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg

from telemetry.errors import ConfigurationError, Unavailable
from telemetry.settings import Settings, format_duration

APPLICATION = "telemetry"
ASKING = "api"
"""Purpose of the connections that answer questions, in snapshots of several statements."""
QUESTIONS = {
    # Compiling takes longer than questions run.
    "jit": "off",
}
"""Server settings of connections that ask."""

_SERVER_SETTINGS = {
    "timezone": "UTC",
    # What a statement is about decides how it is best run: a plan that is kept for any device and any time locks every
    # day that there is, and has cost one meter's day thirty times its time.
    "plan_cache_mode": "force_custom_plan",
    # A client that vanished keeps its locks until the server notices: within half a minute, not after two hours.
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_CLIENT_OPTIONS = (
    # The same for us. A statement may take as long as it likes, but its server must be there.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    # What was sent and is not confirmed ends the connection after so many ms, and not after a quarter of an hour.
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
)
_QUESTION_OPTIONS = (
    # Bytes of an answer that wait for us. Where more wait than uvloop reads at once (256,000), it goes on reading up
    # to 32 times, and everybody else waits while they become rows. Linux doubles the figure.
    (socket.SOL_SOCKET, socket.SO_RCVBUF, 120_000),
)
_CLOSE_WITHIN_S = 0.5
"""An idle connection closes without an answer; one whose statement was cancelled waits for the server to confirm it."""


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
        opened = await asyncpg.connect(
            url,
            timeout=settings.database.connect_timeout.total_seconds(),
            command_timeout=answer_within_s,
            server_settings=_SERVER_SETTINGS | {"application_name": f"{APPLICATION} {purpose}".strip()},
        )
        await _notice_death(opened)
        return opened
    except (ValueError, asyncpg.ClientConfigurationError) as error:
        raise ConfigurationError(f"database.url is no PostgreSQL URL: {error}") from None
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise ConfigurationError(f"the database at {address(url)} refuses us: {error}; see database.url") from error
    except (TimeoutError, OSError, asyncpg.PostgresError) as error:
        limit = format_duration(settings.database.connect_timeout)
        reason = str(error) or f"no answer within database.connect_timeout = {limit}"
        raise Unavailable(f"the database at {address(url)} cannot be reached: {reason}") from error


@asynccontextmanager
async def connection(
    settings: Settings, purpose: str = "", *, answer_within_s: float | None = None
) -> AsyncIterator[asyncpg.Connection]:
    """A connection that is closed at the end of the block; arguments and errors as in `connect`."""
    opened = await connect(settings, purpose, answer_within_s=answer_within_s)
    try:
        yield opened
    finally:
        await close(opened)


async def close(opened: asyncpg.Connection) -> None:
    """Takes leave of the server, unless it does not listen."""
    try:
        await opened.close(timeout=_CLOSE_WITHIN_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        opened.terminate()


async def create_pool(
    settings: Settings, purpose: str = "", *, size: int | None = None, answer_within_s: float | None = None
) -> asyncpg.Pool:
    """A pool of connections that ask, opened lazily: it succeeds while the database is away.

    What a transaction sets ends with it and nothing else is set, so connections go back without a further message.

    Args:
        size: how many there are at the most; none = `database.pool_size`.
        answer_within_s: as in `connect`.
    """
    return await asyncpg.create_pool(
        settings.database.url.get_secret_value(),
        min_size=0,
        max_size=size or settings.database.pool_size,
        timeout=settings.database.connect_timeout.total_seconds(),
        command_timeout=answer_within_s,
        server_settings=_SERVER_SETTINGS | QUESTIONS | {"application_name": f"{APPLICATION} {purpose}".strip()},
        init=_prepare_to_ask,
        reset=_reset,
    )


async def _prepare_to_ask(opened: asyncpg.Connection) -> None:
    await _notice_death(opened)
    for option in _QUESTION_OPTIONS:
        _socket(opened).setsockopt(*option)


async def _notice_death(opened: asyncpg.Connection) -> None:
    """Has the kernel end the connection within a minute when the server's host or the network is gone."""
    end = _socket(opened)
    if end.family != socket.AF_UNIX:
        for option in _CLIENT_OPTIONS:
            end.setsockopt(*option)


def _socket(opened: asyncpg.Connection) -> socket.socket:
    # asyncpg has no option for it and shows the socket to nobody.
    end: socket.socket = opened._transport.get_extra_info("socket")  # type: ignore[attr-defined]
    return end


async def _reset(connection: asyncpg.Connection) -> None:
    if connection.is_in_transaction():
        await connection.reset()


def address(url: str) -> str:
    """Host, port and database of a connection URL, without user and password, for messages."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2] or 'localhost'}{parts.path}"
