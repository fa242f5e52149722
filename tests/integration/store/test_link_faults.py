"""The link to the database: what it does not repeat."""

from __future__ import annotations

import asyncpg
import pytest

from telemetry.errors import ConfigurationError, MigrationError
from telemetry.settings import Settings
from telemetry.store.link import Link


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_fault_of_ours_is_raised_as_it_is(settings: Settings) -> None:
    async def wrong(database: asyncpg.Connection) -> None:
        row = await database.fetchrow("SELECT 1 AS x")
        assert row is not None
        row["y"]

    async def told(database: asyncpg.Connection) -> None:
        raise MigrationError("told")

    link = Link(settings, "test link")
    with pytest.raises(KeyError, match="y") as caught:
        await link.call(wrong)
    assert caught.traceback[-1].frame.code.name == "wrong"
    with pytest.raises(MigrationError, match=r"^told$"):
        await link.call(told)
    assert await link.call(lambda database: database.fetchval("SELECT 1")) == 1
    await link.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("SELECT * FROM nowhere", 'the database refuses what test link asks of it: relation "nowhere" does not exist'),
        ("SELECT 1/0", "the database refuses what test link asks of it: division by zero"),
    ],
)
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_work_that_the_database_refuses_is_a_sentence(settings: Settings, statement: str, sentence: str) -> None:
    link = Link(settings, "test link")
    with pytest.raises(ConfigurationError, match=sentence):
        await link.call(lambda database: database.execute(statement))
    await link.close()
