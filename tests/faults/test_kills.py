"""`kill -9` of ingest, and the control that shows that these accounts can see a loss."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import asyncpg
import pytest

from tests.faults.process import IngestProcess
from tests.faults.publisher import Publisher
from tests.faults.scene import Scene, loaded
from tests.faults.watch import PHASES, Phase, freeze_in, phase

SEED = 20261125
RATE = 600.0
LONGEST_WAIT_S = 120.0
"""A COPY of a small batch is over within a millisecond; a machine that is busy sees one in many."""


async def kill_in(wanted: Phase, process: IngestProcess, database: asyncpg.Connection) -> Phase | None:
    """Kills it in that phase; returns the one in which it was killed."""
    fell = wanted if await freeze_in(wanted, process, database, LONGEST_WAIT_S) else await phase(database)
    await process.kill()
    return fell


async def kill_again_and_again(scene: Scene, kills: int, module: str) -> tuple[Publisher, Counter[Phase | None]]:
    """Publishes without a pause while ingest is killed and started again; then lets a last one finish."""
    random = Random(SEED)
    moments = [*PHASES] * (kills // len(PHASES) + 1)
    random.shuffle(moments)
    fell: Counter[Phase | None] = Counter()
    await scene.known_to_the_broker()
    async with Publisher(scene.settings) as publisher, scene.database() as database:
        async with loaded(publisher, RATE):
            for wanted in moments[:kills]:
                process = scene.process(module, ingest__batch_age="60ms")
                await process.start()
                try:
                    await first_commit(process, database)
                    await asyncio.sleep(random.uniform(0, 0.1))
                    fell[await kill_in(wanted, process, database)] += 1
                finally:
                    await process.kill()
        async with scene.ingesting():
            await scene.settled(publisher, rest_s=60 if module == "telemetry" else 3)
    return publisher, fell


async def first_commit(process: IngestProcess, database: asyncpg.Connection) -> None:
    """Waits until this process has begun to write."""
    async with asyncio.timeout(180):
        while await phase(database) not in ("COPY", "commit"):
            assert process.alive, process.last_words
            await asyncio.sleep(0.001)


@pytest.mark.asyncio
@pytest.mark.parametrize("kills", [pytest.param(8, marks=pytest.mark.short), pytest.param(100, marks=pytest.mark.long)])
async def test_ingest_killed_under_load_loses_and_doubles_nothing(durable_scene: Scene, kills: int) -> None:
    publisher, fell = await kill_again_and_again(durable_scene, kills, "telemetry")
    note = ", ".join(f"{name} {fell[name]}" for name in PHASES)
    account = await durable_scene.account(f"kill -9 of ingest, {kills} times", publisher, note)
    account.assert_kept()
    assert all(fell[name] >= kills // 8 for name in PHASES), fell
    assert account.duplicate > 0, "no kill fell between a commit and its acknowledgement"


@pytest.mark.asyncio
async def test_ingest_that_acknowledges_on_receipt_is_seen_to_lose(durable_scene: Scene) -> None:
    publisher, _ = await kill_again_and_again(durable_scene, 4, "tests.faults.careless")
    account = await durable_scene.account("control: acknowledged on receipt, kill -9", publisher, "must lose")
    assert account.lost > 0, account
    assert account.doubled == 0, account
