"""The link to the database where the network swallows what is said, and ends nothing."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from pydantic import SecretStr

from telemetry.settings import Settings
from telemetry.store.link import Link, Work
from tests.support.proxy import Proxy

ADD = "INSERT INTO devices (device_id, domain) VALUES ($1, 'waste') ON CONFLICT DO NOTHING"
"""Bears repetition: on a busy machine the answer may take longer than it may, and be done all the same."""


async def add_before(database: asyncpg.Connection) -> None:
    """While all is well."""
    await database.execute(ADD, "before")


async def add_one(database: asyncpg.Connection) -> None:
    """A transaction as the writer's: its BEGIN, COMMIT and ROLLBACK must not be waited for without end either."""
    async with database.transaction():
        await database.execute(ADD, "one")


async def add_one_more_slowly(database: asyncpg.Connection) -> None:
    """The same, with the silence in the middle."""
    async with database.transaction():
        await database.execute(ADD, "one")
        await asyncio.sleep(0.4)
        await database.execute("SELECT 1")


def through(settings: Settings, proxy: Proxy) -> Settings:
    """The same, with the proxy between us and the database."""
    url = urlsplit(settings.database.url.get_secret_value())
    spoiled = SecretStr(urlunsplit(url._replace(netloc=f"{url.username}@127.0.0.1:{proxy.port}")))
    return settings.model_copy(update={"database": settings.database.model_copy(update={"url": spoiled})})


def port(settings: Settings) -> int:
    """Where the database listens."""
    found = urlsplit(settings.database.url.get_secret_value()).port
    assert found is not None
    return found


@pytest.mark.asyncio
async def test_cancelled_work_is_not_repeated_where_the_server_is_gone_and_the_rollback_fails(
    settings: Settings,
) -> None:
    begun = asyncio.Event()

    async def wait(database: asyncpg.Connection) -> None:
        assert not begun.is_set(), "the work is repeated"
        async with database.transaction():
            begun.set()
            await asyncio.Event().wait()

    async with Proxy(port(settings)) as proxy:
        mine = Link(through(settings, proxy), "test link")
        working = asyncio.create_task(mine.call(wait))
        await asyncio.wait_for(begun.wait(), 60)
        proxy.cut()
        working.cancel()
        await asyncio.wait({working}, timeout=60)
        assert working.cancelled()
        await mine.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("work", [add_one, add_one_more_slowly])
async def test_server_that_falls_silent_is_given_up_and_the_work_repeated(
    settings: Settings,
    connection: asyncpg.Connection,
    work: Work[None],
) -> None:
    async with Proxy(port(settings)) as proxy:
        mine = Link(through(settings, proxy), "test link", answer_within_s=0.5)
        await mine.call(add_before)
        repeated = asyncio.create_task(mine.call(work))
        await asyncio.sleep(0.2 if work is add_one_more_slowly else 0)  # it is amid its work, or about to begin
        proxy.blackhole()
        proxy.heal()
        await asyncio.wait_for(repeated, 60)
        await mine.close()
    rows = await connection.fetch("SELECT device_id FROM devices ORDER BY device_id")
    assert [row["device_id"] for row in rows] == ["before", "one"]
