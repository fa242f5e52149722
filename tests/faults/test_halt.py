"""A fault of ours: ingest ends loudly, acknowledges nothing, and goes on where it stopped once it is cured."""

from __future__ import annotations

import pytest

from tests.faults.publisher import DOMAIN, Publisher
from tests.faults.scene import Scene, loaded

RATE = 500.0


@pytest.mark.asyncio
async def test_fault_of_ours_halts_and_acknowledges_nothing(scene: Scene) -> None:
    rename = f"ALTER TABLE {DOMAIN}_readings RENAME COLUMN {{}} TO {{}}"
    process = scene.process()
    await process.start()
    try:
        await process.subscribed()
        async with Publisher(scene.settings) as publisher, scene.database() as database:
            async with loaded(publisher, RATE):
                await scene.grown(300)
                await database.execute(rename.format("voltage_v", "voltage"))
                assert await process.wait() == 1
            await database.execute(rename.format("voltage", "voltage_v"))
            async with scene.ingesting():
                await scene.settled(publisher)
    finally:
        await process.kill()
    (await scene.account("column renamed under ingest", publisher, "halted with exit code 1")).assert_kept()
