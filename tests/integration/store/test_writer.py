"""The writer: a COMMIT whose answer is lost, two processes of one name, and back to the fast way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from asyncpg.transaction import Transaction

from telemetry.domains import load_domains
from telemetry.settings import Settings
from telemetry.store import devices, locks, writer
from telemetry.store.batch import Batch, Part, Readings
from telemetry.store.layout import Layout, Row
from telemetry.store.writer import Writer

WASTE = Layout.of(load_domains()["waste"])
NOW = int(time.time()) * 1_000_000
"""The same for all batches, however long a test takes: no two meet by chance, and all are of one hour of the ledger."""


@pytest_asyncio.fixture
async def device_key(connection: asyncpg.Connection) -> int:
    """A registered device."""
    return (await devices.register(connection, {"bin": "waste"}))["bin"]


def batch(device_key: int, *offsets: int) -> Batch:
    """A batch with a reading for each offset, in seconds before now."""
    made = Batch(0, len(offsets), NOW)
    made.received["waste"] = len(offsets)
    readings = made.readings["waste"] = Readings(WASTE)
    for offset in offsets:
        row = Row((NOW - offset * 1_000_000, NOW, device_key, *[None] * (len(WASTE.columns) - 4), None))
        readings.add(WASTE.entry(row, Part("city/v1/waste/bin", b"{}", 0)))
    return made


def ignore() -> None:
    """Nobody remembers anything of the database."""


@pytest.mark.asyncio
@pytest.mark.parametrize("committed", [True, False])
async def test_commit_whose_answer_is_lost_is_counted_once(
    settings: Settings,
    connection: asyncpg.Connection,
    device_key: int,
    monkeypatch: pytest.MonkeyPatch,
    committed: bool,
) -> None:
    real: Callable[[Any], Awaitable[None]] = Transaction.commit
    lost: list[bool] = []

    async def commit(transaction: Any) -> None:
        if not lost and not transaction._nested:
            lost.append(True)
            if committed:
                await real(transaction)
            raise ConnectionResetError("the answer is lost")
        await real(transaction)

    monkeypatch.setattr(Transaction, "commit", commit)
    under_test = Writer(settings, "worker", ignore)
    counts = await under_test.write(batch(device_key, 1, 2))
    await under_test.close()
    assert lost == [True]
    assert counts == {("waste", "received"): 2, ("waste", "stored"): 2}
    rows = await connection.fetch("SELECT outcome, readings FROM ledger ORDER BY outcome")
    assert [tuple(row) for row in rows] == [("received", 2), ("stored", 2)]
    assert await connection.fetchval("SELECT count(*) FROM waste_readings") == 2


@pytest.mark.asyncio
async def test_two_writers_of_one_name_never_write_at_once(settings: Settings, device_key: int) -> None:
    first, second = Writer(settings, "worker", ignore), Writer(settings, "worker", ignore)
    await first.open()
    waiting = second.write(batch(device_key, 1))
    task = asyncio.create_task(waiting)
    await asyncio.sleep(0.5)
    assert not task.done()
    await first.close()
    assert (await asyncio.wait_for(task, 60))["waste", "stored"] == 1
    await second.close()


@pytest.mark.asyncio
async def test_what_is_acknowledged_is_written_beside_another_process(
    settings: Settings, connection: asyncpg.Connection, device_key: int
) -> None:
    """And whether it was is known to the place that it is in, whatever the other one commits meanwhile."""
    first, second = Writer(settings, "worker", ignore), Writer(settings, "worker", ignore)
    second.place = uuid4()
    await first.open()
    kept = batch(device_key, 10)
    kept.acknowledged = True
    assert (await asyncio.wait_for(second.write(kept), 60))["waste", "stored"] == 1
    assert second.is_barred
    not_kept = asyncio.create_task(second.write(batch(device_key, 20)))
    await asyncio.sleep(0.5)
    assert not not_kept.done()
    await first.write(batch(device_key, 30))
    await first.close()
    await asyncio.wait_for(not_kept, 60)
    assert not second.is_barred
    await second.close()
    again = Writer(settings, "worker", ignore)
    again.place = second.place
    committed = await again.known()
    assert len(committed) == 2  # the last one of either place
    await again.close()
    rows = await connection.fetch("SELECT outcome, readings FROM ledger ORDER BY outcome")
    assert [tuple(row) for row in rows] == [("received", 3), ("stored", 3)]


@pytest.mark.asyncio
async def test_commit_that_another_place_followed_is_still_recognised(
    settings: Settings, connection: asyncpg.Connection, device_key: int
) -> None:
    in_doubt, place = batch(device_key, 10), uuid4()
    for writes in ([in_doubt], [batch(device_key, 20)], [in_doubt]):
        under_test = Writer(settings, "worker", ignore)
        under_test.place = place if in_doubt in writes else uuid4()
        for each in writes:
            await under_test.write(each)
        await under_test.close()
    rows = await connection.fetch("SELECT outcome, readings FROM ledger ORDER BY outcome")
    assert [tuple(row) for row in rows] == [("received", 2), ("stored", 2)]


@pytest.mark.asyncio
async def test_place_is_of_one_process_at_a_time(settings: Settings, device_key: int) -> None:
    """Also where neither has the name: a server process that goes on after its client was killed may yet commit."""
    name, first, second = (Writer(settings, "worker", ignore) for _ in range(3))
    first.place = second.place = uuid4()
    await name.open()
    await first.known()
    waiting = asyncio.create_task(second.known())
    await asyncio.sleep(0.5)
    assert not waiting.done()
    await first.close()
    await asyncio.wait_for(waiting, 60)
    await second.close()
    await name.close()


@pytest.mark.asyncio
async def test_writer_is_fast_again_after_duplicates(
    settings: Settings, device_key: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways: list[str] = []
    for name in ("store_new", "store_carefully"):
        real = getattr(writer, name)

        async def noted(database: Any, made: Batch, real: Any = real, name: str = name) -> Any:
            ways.append(name)
            return await real(database, made)

        monkeypatch.setattr(writer, name, noted)
    under_test = Writer(settings, "worker", ignore)
    known = batch(device_key, 1, 2)
    await under_test.write(known)
    assert (await under_test.write(known))["waste", "duplicate"] == 2
    await under_test.write(known)
    await under_test.write(batch(device_key, 100))
    await under_test.write(batch(device_key, 200))
    await under_test.close()
    assert ways == ["store_new", "store_new", "store_carefully", "store_carefully", "store_carefully", "store_new"]


@pytest.mark.asyncio
@pytest.mark.parametrize("takes_over", [False, True])
async def test_batch_in_flight_keeps_its_device_over_a_failover_that_lost_registrations(
    settings: Settings, connection: asyncpg.Connection, device_key: int, takes_over: bool
) -> None:
    """The server that took over knows nothing of `bin`, and may have given its key to somebody else."""
    under_test = Writer(settings, "worker", ignore)
    await under_test.write(batch(device_key, 100))
    in_flight = batch(device_key, 1, 1, 2)
    await connection.execute("DELETE FROM waste_readings; DELETE FROM devices")
    await connection.execute("UPDATE device_removals SET removals = removals - 1")  # nor of the removal
    if takes_over:
        await connection.execute(
            "INSERT INTO devices (device_key, device_id, domain) OVERRIDING SYSTEM VALUE VALUES ($1, 'other', 'waste')",
            device_key,
        )
    await connection.execute(
        """
        SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'telemetry ingest'
        """
    )
    counts = await under_test.write(in_flight)
    await under_test.close()
    assert (counts["waste", "stored"], counts["waste", "duplicate"]) == (2, 1)
    found = await connection.fetch("SELECT device_id FROM waste_readings LEFT JOIN devices USING (device_key)")
    assert [row["device_id"] for row in found] == ["bin", "bin"]


@pytest.mark.asyncio
async def test_batch_whose_first_attempt_fails_does_not_use_what_it_registered_then(
    settings: Settings, connection: asyncpg.Connection, device_key: int
) -> None:
    under_test = Writer(settings, "worker", ignore)
    made = batch(device_key, 1)
    readings = made.readings["waste"]
    made.received["waste"] = 2
    empty = [None] * (len(WASTE.columns) - 4)
    bad = Row((made.received_us, made.received_us, device_key, *empty, '{"note": "\\u0000"}'))
    readings.add(WASTE.entry(bad, Part("city/v1/waste/bin", b"{}", 0)))
    await connection.execute("DELETE FROM devices")
    counts = await under_test.write(made)
    await under_test.close()
    assert (counts["waste", "stored"], counts["waste", "rejected_by_database"]) == (1, 1)
    assert await connection.fetchval("SELECT count(*) FROM waste_readings JOIN devices USING (device_key)") == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["timescaledb"], indirect=True)
async def test_writer_completes_many_rows_of_compressed_chunks(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    """More rows than TimescaleDB decompresses in one transaction by itself."""
    keys = await devices.register(connection, {f"bin-{number:03}": "waste" for number in range(1, 151)})
    assert sorted(keys.values()) == list(range(1, 151))
    day = int(time.time()) // 86_400 * 86_400 - 10 * 86_400
    await connection.execute(
        """
        INSERT INTO waste_readings (time, received_at, device_key, fill_level_pct)
        SELECT to_timestamp($1) + minute * interval '1 minute', now(), device, 1
        FROM generate_series(1, 150) AS device, generate_series(0, 999) AS minute
        """,
        day,
    )
    await connection.execute("SELECT compress_chunk(chunk) FROM show_chunks('waste_readings') AS chunk")
    made = Batch(0, 150, int(time.time()) * 1_000_000)
    made.received["waste"] = 150
    readings = made.readings["waste"] = Readings(WASTE)
    shape = WASTE.shape(("weight_kg",))
    for device, key in keys.items():
        readings.add((day * 1_000_000, made.received_us, key, shape, Part(f"city/v1/waste/{device}", b"{}", 0), 60.0))
    under_test = Writer(settings, "worker", ignore)
    counts = await asyncio.wait_for(under_test.write(made), 180)
    await under_test.close()
    assert counts["waste", "merged"] == 150
    assert await connection.fetchval("SELECT count(*) FROM waste_readings WHERE fill_level_pct = 1") == 150_000


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("lock", "waits"),
    [
        (f"pg_advisory_xact_lock({locks.MERGE}, hashtext('lighting'))", False),
        (f"pg_advisory_xact_lock({locks.MERGE}, hashtext('waste'))", True),
        (f"pg_advisory_xact_lock({locks.MERGE_ALL})", True),  # a worker of a release of before
    ],
)
async def test_who_completes_rows_waits_for_those_of_the_same_domain(
    settings: Settings, connection: asyncpg.Connection, device_key: int, lock: str, waits: bool
) -> None:
    under_test = Writer(settings, "worker", ignore)
    known = batch(device_key, 1, 2)
    await under_test.write(known)
    async with connection.transaction():
        await connection.execute(f"SELECT {lock}")
        writing = asyncio.create_task(under_test.write(known))
        while not writing.done():
            if await connection.fetchval(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = "
                "(SELECT oid FROM pg_database WHERE datname = current_database())"
            ):
                break
            await asyncio.sleep(0.01)
        assert writing.done() is not waits
    assert (await writing)["waste", "duplicate"] == 2
    await under_test.close()
