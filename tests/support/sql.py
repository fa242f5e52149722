"""SQL from fixtures that are no coroutines: each call has a connection and an event loop of its own, in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import asyncpg

Result = TypeVar("Result")


def wait_for(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Runs a coroutine to its end, even where an event loop is running in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


def execute(url: str, *statements: str) -> None:
    """Executes statements, each on its own (CREATE DATABASE allows no transaction around it)."""

    async def work() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    wait_for(work)


def fetch_row(url: str, query: str) -> asyncpg.Record:
    """The only row of a query."""

    async def work() -> asyncpg.Record:
        connection = await asyncpg.connect(url)
        try:
            row = await connection.fetchrow(query)
        finally:
            await connection.close()
        assert row is not None
        return row

    return wait_for(work)
