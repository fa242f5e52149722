"""Upkeep over a connection that nobody serves any more, and over one that only takes its time."""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from pydantic import SecretStr

from telemetry.settings import Settings
from telemetry.store.pool import connect, create_pool
from telemetry.upkeep import rounds, watch
from telemetry.upkeep.watch import watched
from tests.support.proxy import Proxy
from tests.support.supervised import until


def through(settings: Settings, proxy: Proxy) -> Settings:
    """The same settings, with the proxy between us and the database."""
    url = urlsplit(settings.database.url.get_secret_value())
    spoiled = SecretStr(urlunsplit(url._replace(netloc=f"{url.username}@127.0.0.1:{proxy.port}")))
    return settings.model_copy(update={"database": settings.database.model_copy(update={"url": spoiled})})


def port(settings: Settings) -> int:
    """Where the database listens."""
    found = urlsplit(settings.database.url.get_secret_value()).port
    assert found is not None
    return found


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_upkeep_goes_on_over_a_new_connection_when_the_old_one_is_forgotten(
    settings: Settings, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy keeps both connections open, so neither side's TCP notices; the old one holds the leader's lock."""
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.5)
    stop = asyncio.Event()
    async with Proxy(port(settings)) as proxy:
        mine = through(settings, proxy)
        await connection.execute("INSERT INTO late_ranges VALUES (DEFAULT, 'waste', '2026-11-01 00:00Z')")
        blocker = await connect(settings, "test")
        block = blocker.transaction()
        await block.start()
        await blocker.execute("LOCK TABLE late_ranges")
        running = asyncio.create_task(rounds.run(mine, stop))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'telemetry maintain' AND {}"
        await until(connection, waiting.format("wait_event_type = 'Lock'"), lambda count: count == 1)
        first = await connection.fetchval("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        await asyncio.sleep(2)
        assert await connection.fetchval(waiting.format(f"pid = {first}")) == 1, "it only takes its time"
        proxy.blackhole()
        proxy.heal()
        await block.rollback()
        await blocker.close()
        await until(connection, waiting.format(f"pid <> {first}"), lambda count: count == 1)
        await until(connection, "SELECT count(*) FROM late_ranges", lambda count: count == 0)
        await until(connection, waiting.format(f"pid = {first}"), lambda count: count == 0)
        stop.set()
        await asyncio.wait_for(running, 60)


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_long_statement_is_not_given_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.2)
    database = await connect(settings, "test")
    async with watched(settings, database):
        await database.execute("SELECT pg_sleep(1.5)")
    await database.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_connections_ask_tcp_whether_the_server_is_there(settings: Settings) -> None:
    """A host that is gone would be waited for without end by a statement, which may take its time."""
    database, pool = await connect(settings), await create_pool(settings)
    async with pool.acquire() as pooled:
        ends: list[Any] = [database, pooled._con]  # type: ignore[attr-defined]
        for end in (each._transport.get_extra_info("socket") for each in ends):
            assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
    await pool.close()
    await database.close()
