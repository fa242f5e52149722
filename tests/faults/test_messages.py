"""What gateways do wrong: poison, floods, sizes, repetitions, late data, wrong clocks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from telemetry.store.migrate import migrate
from tests.faults.publisher import DOMAIN, Publisher
from tests.faults.scene import Scene, loaded

RATE = 1_000.0
LARGE_BATCHES: dict[str, Any] = {"ingest__batch_rows": 1_000, "ingest__batch_age": "200ms"}


@pytest.mark.asyncio
async def test_poison_rows_amid_batches_are_refused_alone(scene: Scene) -> None:
    """In every 97th message, in turns: what the table refuses, and a NUL, which PostgreSQL's texts cannot hold."""
    async with scene.database() as database:
        await database.execute(f"ALTER TABLE {DOMAIN}_readings ADD CHECK (attributes ->> 'note' <> 'poison')")
    async with scene.ingesting(**LARGE_BATCHES), Publisher(scene.settings) as publisher:
        for number in range(3_000):
            if number % 97 == 50:
                key = publisher.next()
                publisher.refused[key] = publisher.body(key, note='"\\u0000"' if number % 2 else '"poison"')
                publisher.send(key, publisher.refused[key])
            else:
                publisher.publish(1)
        await scene.settled(publisher)
    account = await scene.account("poison row in every 97th message", publisher)
    account.assert_kept()
    assert account.ledger["rejected_by_database"] == len(publisher.refused) > 20
    assert await quarantined(scene) == publisher_payloads(publisher)


@pytest.mark.asyncio
async def test_raw_nul_bytes_are_quarantined_as_they_are(scene: Scene) -> None:
    async with scene.ingesting(), Publisher(scene.settings) as publisher:
        for number in range(200):
            publisher.refuse(b"\x00\xff" + str(number).encode() + b"\x00")
            publisher.publish(5)
        await scene.settled(publisher)
    account = await scene.account("payloads of NUL bytes", publisher)
    account.assert_kept()
    assert account.ledger["malformed"] == 200
    assert await quarantined(scene) == publisher_payloads(publisher)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "messages", [pytest.param(2_000, marks=pytest.mark.short), pytest.param(100_000, marks=pytest.mark.long)]
)
async def test_flood_of_malformed_messages_is_counted_to_the_last(scene: Scene, messages: int) -> None:
    async with (
        scene.ingesting(ingest__batch_rows=5_000, ingest__batch_age="100ms"),
        Publisher(scene.settings) as publisher,
    ):
        async with loaded(publisher, 100):
            for number in range(messages):
                publisher.refuse(b'{"flood":%d' % number, f"{DOMAIN}/broken")
                if number % 500 == 0:
                    await publisher.make_room()
        await scene.settled(publisher)
    account = await scene.account(f"{messages:,} malformed messages of one device", publisher)
    account.assert_kept()
    assert account.ledger["malformed"] == messages
    assert account.ledger["received"] == account.published


@pytest.mark.asyncio
async def test_oversize_packets_spoil_no_other(scene: Scene) -> None:
    """Beyond ingest.max_payload_bytes, some far beyond one read of the socket and one batch."""
    async with scene.ingesting(ingest__max_payload_bytes=65_536), Publisher(scene.settings) as publisher:
        async with loaded(publisher, RATE):
            for number, size in enumerate([65_536, 200_000, 1_500_000, 5_000_000] * 3):
                publisher.refuse(b'{"note":"%d%s"}' % (number, b"x" * size))
                await asyncio.sleep(0.1)
        await scene.settled(publisher)
    account = await scene.account("oversize packets of up to 5 MB", publisher)
    account.assert_kept()
    assert account.ledger["oversize"] == len(publisher.refused) == 12


@pytest.mark.asyncio
async def test_same_message_again_within_and_across_batches_is_a_duplicate(scene: Scene) -> None:
    async with scene.ingesting(**LARGE_BATCHES), Publisher(scene.settings) as publisher:
        keys = publisher.publish(2_000)
        publisher.repeat(keys[::2])
        await scene.settled(publisher)
        publisher.repeat(keys)
        publisher.publish(500)
        publisher.repeat(keys[::3])
        await scene.settled(publisher)
        await ledger_reaches(scene, 2_000 + 1_000 + 2_000 + 500 + 667)
    account = await scene.account("duplicates within and across batches", publisher)
    account.assert_kept()
    assert account.duplicate == 1_000 + 2_000 + 667


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["timescaledb"], indirect=True)
async def test_same_message_again_into_a_compressed_chunk_is_a_duplicate(scene: Scene) -> None:
    async with scene.ingesting(), Publisher(scene.settings) as publisher, scene.database() as database:
        keys = publisher.publish(10_000)
        await scene.settled(publisher)
        compressed = await database.fetch(f"SELECT compress_chunk(c) FROM show_chunks('{DOMAIN}_readings') AS c")
        assert compressed
        for first in range(0, len(keys), 1_000):
            publisher.repeat(keys[first : first + 1_000])
            publisher.publish(100)
        await ledger_reaches(scene, 21_000)
        await scene.settled(publisher)
    account = await scene.account("duplicates into compressed chunks", publisher, f"chunks {len(compressed)}")
    account.assert_kept()
    assert account.duplicate == len(keys)


@pytest.mark.asyncio
async def test_data_that_is_a_day_late_is_stored(scene: Scene) -> None:
    async with scene.ingesting(), Publisher(scene.settings, datetime.now(UTC) - timedelta(hours=24)) as publisher:
        async with loaded(publisher, RATE):
            await scene.grown(3_000)
        await scene.settled(publisher)
    (await scene.account("data 24 hours late", publisher)).assert_kept()


@pytest.mark.asyncio
async def test_clocks_of_1970_and_2099_make_no_chunk_or_partition(scene: Scene) -> None:
    # All of one day, also when it has just begun.
    hour = (datetime.now(UTC) - timedelta(hours=1)).replace(minute=0, second=0, microsecond=0)
    async with scene.ingesting(), Publisher(scene.settings, hour) as publisher, scene.database() as database:
        publisher.publish(100)
        await scene.settled(publisher)
        before = await parts(database)
        async with loaded(publisher, RATE):
            for number in range(200):
                for time in (number, 4_073_500_800 + number):
                    publisher.refuse(b'{"time":%d,"energy_import_kwh":1}' % time)
                await asyncio.sleep(0.005)
        await scene.settled(publisher)
        assert await parts(database) == before
    account = await scene.account("clocks of 1970 and 2099", publisher, f"parts of the table {len(before)}, as before")
    account.assert_kept()
    assert (account.ledger["clock_past"], account.ledger["clock_future"]) == (200, 200)


@pytest.mark.asyncio
async def test_migration_under_load_loses_nothing(scene: Scene) -> None:
    folder = scene.folder / "migrations"
    folder.mkdir()
    (folder / "0100_calibrated.sql").write_text(
        f"ALTER TABLE {DOMAIN}_readings ADD COLUMN calibrated boolean;\n"
        "CREATE TABLE calibrations (device_key int PRIMARY KEY, certificate text NOT NULL);\n"
        "SELECT pg_sleep(1);\n"
    )
    database = scene.settings.database.model_copy(update={"migrations": [folder]})
    async with scene.ingesting(), Publisher(scene.settings) as publisher:
        async with loaded(publisher, RATE):
            await scene.grown(300)
            assert await migrate(scene.settings.model_copy(update={"database": database})) == ["0100_calibrated"]
            await scene.grown(300)
        await scene.settled(publisher)
    (await scene.account("migration under load", publisher, "1 s under the table's lock")).assert_kept()


def publisher_payloads(publisher: Publisher) -> list[bytes]:
    """What must be in quarantine, byte for byte."""
    return sorted(publisher.refused.values())


async def quarantined(scene: Scene) -> list[bytes]:
    """The raw bytes that are in quarantine."""
    async with scene.database() as database:
        return sorted(row["payload"] for row in await database.fetch("SELECT payload FROM quarantine"))


async def parts(database: asyncpg.Connection) -> list[str]:
    """Partitions or chunks of the table."""
    on_timescaledb = await database.fetchval("SELECT value = 'timescaledb' FROM telemetry_meta WHERE key = 'engine'")
    query = (
        f"SELECT c::text FROM show_chunks('{DOMAIN}_readings') AS c"
        if on_timescaledb
        else (f"SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = '{DOMAIN}_readings'::regclass")
    )
    return sorted(row[0] for row in await database.fetch(query))


async def ledger_reaches(scene: Scene, readings: int) -> None:
    """Waits until so many readings are received."""
    async with scene.database() as database, asyncio.timeout(120):
        query = "SELECT coalesce(sum(readings), 0) FROM ledger WHERE outcome = 'received'"
        while await database.fetchval(query) < readings:
            await asyncio.sleep(0.1)
