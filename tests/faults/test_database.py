"""The database dies, is stopped, is locked, refuses, answers late."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from random import Random
from typing import Any

import asyncpg
import psutil
import pytest

from telemetry.demo.postgres import LocalPostgres
from tests.faults.publisher import DOMAIN, Publisher
from tests.faults.scene import Scene, loaded
from tests.faults.watch import freeze_in, phase

SEED = 20261125
RATE = 1_000.0
LARGE_BATCHES: dict[str, Any] = {"ingest__batch_rows": 5_000, "ingest__batch_age": "300ms"}
TABLE = f"{DOMAIN}_readings"


@pytest.mark.asyncio
@pytest.mark.parametrize("times", [pytest.param(2, marks=pytest.mark.short), pytest.param(10, marks=pytest.mark.long)])
async def test_database_killed_under_load_gets_every_reading_once(
    durable_scene: Scene, durable_server: LocalPostgres, times: int
) -> None:
    random = Random(SEED)
    async with durable_scene.ingesting(), Publisher(durable_scene.settings) as publisher:
        async with loaded(publisher, RATE):
            for _ in range(times):
                await durable_scene.grown(300)
                await asyncio.sleep(random.uniform(0, 0.2))
                await asyncio.to_thread(durable_server.kill)
                await asyncio.to_thread(durable_server.start)
        await durable_scene.settled(publisher)
    account = await durable_scene.account(f"kill -9 of PostgreSQL, {times} times", publisher)
    account.assert_kept()


@pytest.mark.asyncio
@pytest.mark.parametrize("times", [pytest.param(1, marks=pytest.mark.short), pytest.param(5, marks=pytest.mark.long)])
async def test_database_stopped_at_once_amid_copy_gets_every_reading_once(
    durable_scene: Scene, durable_server: LocalPostgres, times: int
) -> None:
    fallen = 0
    async with durable_scene.ingesting(**LARGE_BATCHES) as process, Publisher(durable_scene.settings) as publisher:
        async with loaded(publisher, 3 * RATE):
            for _ in range(times):
                async with durable_scene.database() as database:
                    await durable_scene.grown(300)
                    fallen += await freeze_in("COPY", process, database, 120)
                    await asyncio.to_thread(durable_server.stop, "immediate")
                    database.terminate()
                await asyncio.to_thread(durable_server.start)
                process.send(signal.SIGCONT)
        await durable_scene.settled(publisher)
    note = f"amid COPY {fallen}"
    account = await durable_scene.account(f"immediate shutdown during COPY, {times} times", publisher, note)
    account.assert_kept()
    assert fallen == times


@pytest.mark.asyncio
@pytest.mark.long
async def test_database_that_is_stopped_delays_but_loses_nothing(
    durable_scene: Scene, durable_server: LocalPostgres
) -> None:
    async with durable_scene.ingesting(), Publisher(durable_scene.settings) as publisher:
        async with loaded(publisher, RATE):
            await durable_scene.grown(300)
            signal_server(durable_server, signal.SIGSTOP)
            await asyncio.sleep(8)
            signal_server(durable_server, signal.SIGCONT)
            await durable_scene.grown(300)
        await durable_scene.settled(publisher)
    (await durable_scene.account("PostgreSQL stopped (SIGSTOP) for 8 s", publisher)).assert_kept()


@pytest.mark.asyncio
@pytest.mark.long
async def test_database_that_is_slow_delays_but_loses_nothing(
    durable_scene: Scene, durable_server: LocalPostgres
) -> None:
    """It runs for 20 ms of every 220."""
    async with durable_scene.ingesting(), Publisher(durable_scene.settings) as publisher:
        async with loaded(publisher, RATE):
            await durable_scene.grown(300)
            for _ in range(40):
                signal_server(durable_server, signal.SIGSTOP)
                await asyncio.sleep(0.2)
                signal_server(durable_server, signal.SIGCONT)
                await asyncio.sleep(0.02)
        await durable_scene.settled(publisher)
    (await durable_scene.account("PostgreSQL slow (runs 1/11 of the time)", publisher)).assert_kept()


@pytest.mark.asyncio
async def test_table_that_is_locked_delays_but_loses_nothing(scene: Scene) -> None:
    async with scene.ingesting(), Publisher(scene.settings) as publisher, scene.database() as database:
        async with loaded(publisher, RATE):
            await scene.grown(300)
            async with database.transaction():
                await database.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
                await asyncio.sleep(2)
                await until_blocked(database)
                assert await blocked(database) == 1
            await scene.grown(300)
        await scene.settled(publisher)
    (await scene.account("LOCK TABLE for 2 s", publisher, "writer blocked")).assert_kept()


@pytest.mark.asyncio
@pytest.mark.parametrize("limit", ["statement_timeout", pytest.param("lock_timeout", marks=pytest.mark.long)])
async def test_statement_that_takes_too_long_is_repeated(scene: Scene, limit: str) -> None:
    async with scene.database() as database, Publisher(scene.settings) as publisher:
        name = await database.fetchval("SELECT current_database()")
        await database.execute(f"ALTER DATABASE {name} SET {limit} = '150ms'")
        async with scene.ingesting(), loaded(publisher, RATE):
            await scene.grown(300)
            async with database.transaction():
                await database.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
                await asyncio.sleep(3)
            await scene.grown(300)
            await database.execute(f"ALTER DATABASE {name} RESET {limit}")
            await end_backends(database)
        async with scene.ingesting() as process:
            await scene.settled(publisher)
            assert "canceling statement due to" in process.last_words or "database_away" in scene.log.read_text()
    (await scene.account(f"{limit} of 150 ms and a lock for 3 s", publisher)).assert_kept()


@pytest.mark.asyncio
async def test_deadlock_that_strikes_ingest_is_survived(scene: Scene) -> None:
    """Ingest has copied and wants its row of ingest_commits, which we hold; we want the table that it has copied to."""
    async with scene.ingesting(), Publisher(scene.settings) as publisher, scene.database() as database:
        before = await deadlocks(database)
        async with loaded(publisher, RATE):
            for _ in range(3):
                await scene.grown(300)
                async with database.transaction():
                    await database.execute("SET LOCAL deadlock_timeout = '1min'")  # ingest finds it first
                    await database.execute("UPDATE ingest_commits SET committed_at = committed_at")
                    await until_blocked(database)
                    await database.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
        await scene.settled(publisher)
        found = 0
        async with asyncio.timeout(60):  # a server process tells it when it ends
            while found < 3:
                found = await deadlocks(database) - before
    account = await scene.account("deadlock, ingest its victim, 3 times", publisher, f"deadlocks {found}")
    account.assert_kept()
    assert found == 3


@pytest.mark.asyncio
@pytest.mark.parametrize("times", [pytest.param(10, marks=pytest.mark.short), pytest.param(60, marks=pytest.mark.long)])
async def test_lost_answer_of_a_commit_does_not_count_twice(durable_scene: Scene, times: int) -> None:
    """The server process is ended at random moments, and every other time amid a COMMIT."""
    random = Random(SEED)
    amid = 0
    async with durable_scene.ingesting(), Publisher(durable_scene.settings) as publisher:
        async with durable_scene.database() as database, loaded(publisher, RATE):
            for number in range(times):
                await durable_scene.grown(50)
                await asyncio.sleep(random.uniform(0, 0.05))
                while number % 2 and await phase(database) != "commit":
                    await asyncio.sleep(0)
                amid += number % 2
                await end_backends(database)
        await durable_scene.settled(publisher)
    account = await durable_scene.account(f"server process ended, {times} times", publisher, f"amid COMMIT {amid}")
    account.assert_kept()


def signal_server(server: LocalPostgres, number: signal.Signals) -> None:
    """To the server and all of its processes; the postmaster first, so that it starts no other."""
    postmaster = psutil.Process(server.pid)
    for process in [postmaster, *postmaster.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


async def end_backends(database: asyncpg.Connection) -> None:
    """Sends ingest's server processes away."""
    await database.execute(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name LIKE 'telemetry ingest%' AND datname = current_database()
        """
    )


async def blocked(database: asyncpg.Connection) -> int:
    """Server processes that wait for one of ours."""
    count: int = await database.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    )
    return count


async def until_blocked(database: asyncpg.Connection) -> None:
    """Waits until somebody waits for us."""
    async with asyncio.timeout(60):
        while not await blocked(database):
            await asyncio.sleep(0.01)


async def deadlocks(database: asyncpg.Connection) -> int:
    """Deadlocks that the server has found in this database."""
    await asyncio.sleep(1.1)  # the statistics are a second late
    await database.execute("SELECT pg_stat_clear_snapshot()")
    count: int = await database.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    return count
