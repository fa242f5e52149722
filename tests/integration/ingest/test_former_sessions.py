"""Sessions that are used no more: given up when nothing of them is left, at the broker or here, and no sooner."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from telemetry.ingest import assembly, service
from telemetry.ingest.intake import Arrival
from telemetry.ingest.parcel import Kept, Parcel
from telemetry.ingest.spool import Spool
from telemetry.settings import Settings
from telemetry.store.pool import connection as connected
from tests.support.ingesting import PATIENCE_S, received
from tests.support.supervised import until

SILENCE_S = 1.0


@pytest.fixture(autouse=True)
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less waiting for the same question."""
    monkeypatch.setattr(assembly, "_SILENCE_S", SILENCE_S)


def divided(settings: Settings, directory: Path | None = None) -> Settings:
    """Two workers, for which the session of one is a former one; with a spool there."""
    return settings.model_copy(
        update={
            "ingest": settings.ingest.model_copy(update={"workers": 2}),
            "spool": settings.spool.model_copy(update={"directory": directory, "after": timedelta(seconds=1)}),
        }
    )


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    """All workers run, in this process, while the block does."""
    stop = asyncio.Event()
    workers = [asyncio.create_task(service.run(settings, stop, number)) for number in (1, 2)]
    try:
        yield
        for worker in workers:
            assert not worker.done(), worker.result()
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*workers), PATIENCE_S)


async def on_record(database: asyncpg.Connection, client_id: str, filters: list[str]) -> None:
    """Writes that the broker had that session."""
    await database.execute(
        "INSERT INTO ingest_sessions (client_id, base, filters, subscribed_at) VALUES ($1, $1, $2, now())",
        client_id,
        filters,
    )


async def is_known(database: asyncpg.Connection, client_id: str) -> bool:
    """Whether a session is on record."""
    known: bool = await database.fetchval("SELECT EXISTS (SELECT FROM ingest_sessions WHERE client_id = $1)", client_id)
    return known


async def forgotten(database: asyncpg.Connection, client_id: str) -> None:
    """Waits until a session is struck off."""
    await until(
        database, f"SELECT count(*) FROM ingest_sessions WHERE client_id = '{client_id}'", lambda found: found == 0
    )


def leave_behind(directory: Path, settings: Settings, client_id: str, readings: int = 5) -> Path:
    """A spool as a process leaves it that ends while the database is away; returns its file."""
    spool = Spool(directory, client_id, 64 * 1024 * 1024)
    spool.open()
    now = datetime.now(UTC)
    for number in range(readings):
        body = {"time": (now - timedelta(seconds=number)).isoformat(), "fill_level_pct": 5}
        message = Kept(f"{settings.mqtt.topic_root}/waste/bin-{number}", json.dumps(body).encode())
        spool.append(Parcel(uuid4(), [Arrival(0, time.time_ns() // 1000, [message], len(message.payload))]))
    spool.close()
    return spool.path


@pytest.mark.asyncio
async def test_former_session_is_kept_while_its_spool_holds_something(
    settings: Settings, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    former = settings.mqtt.client_id
    file = leave_behind(tmp_path, settings, former)
    await on_record(connection, former, [f"{settings.mqtt.topic_root}/#"])
    async with working(divided(settings, tmp_path)):
        async with connected(settings, "test") as other, other.transaction():
            # Longer than a silence: the broker has nothing to say, and the spool cannot be drained.
            await other.execute("LOCK TABLE waste_readings IN ACCESS EXCLUSIVE MODE")
            await until(connection, "SELECT count(*) FROM ingest_sessions WHERE answered", lambda n: n == 5)
            await asyncio.sleep(4 * SILENCE_S)
            assert await is_known(connection, former)
        assert await received(connection, 5) == {"received": 5, "stored": 5}
        await forgotten(connection, former)
        assert not file.exists()


@pytest.mark.asyncio
async def test_spool_whose_session_is_not_on_record_is_drained_or_named(
    settings: Settings, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    base = settings.mqtt.client_id
    ours = [base, f"{base}-strays-00c0ffee"]
    files = [leave_behind(tmp_path, settings, name) for name in ours]
    unclear = leave_behind(tmp_path, settings, f"{base}-7")
    with capture_logs() as said:
        async with working(divided(settings, tmp_path)):
            await until(connection, "SELECT count(*) FROM waste_readings", lambda rows: rows == 10)
            for name in ours:
                await forgotten(connection, name)
    assert not any(file.exists() for file in files)
    assert unclear.exists()
    named = {each["file"] for each in said if each["event"] == "spool_without_session"}
    assert named == {str(file) for file in (*files, unclear)}
