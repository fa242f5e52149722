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


@pytest.mark.asyncio
@pytest.mark.parametrize("work", [add_one, add_one_more_slowly])
async def test_server_that_falls_silent_is_given_up_and_the_work_repeated(
    settings: Settings,
    connection: asyncpg.Connection,
    work: Work[None],
) -> None:
    url = urlsplit(settings.database.url.get_secret_value())
    assert url.port is not None
    async with Proxy(url.port) as proxy:
        spoiled = urlunsplit(url._replace(netloc=f"{url.username}@127.0.0.1:{proxy.port}"))
        database = settings.database.model_copy(update={"url": SecretStr(spoiled)})
        mine = Link(settings.model_copy(update={"database": database}), "test link", answer_within_s=0.5)
        await mine.call(add_before)
        repeated = asyncio.create_task(mine.call(work))
        await asyncio.sleep(0.2 if work is add_one_more_slowly else 0)  # it is amid its work, or about to begin
        proxy.blackhole()
        proxy.heal()
        await asyncio.wait_for(repeated, 60)
        await mine.close()
    rows = await connection.fetch("SELECT device_id FROM devices ORDER BY device_id")
    assert [row["device_id"] for row in rows] == ["before", "one"]
