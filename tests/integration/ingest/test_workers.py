"""Several workers: every reading once, whoever dies, whoever comes and goes."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import psutil
import pytest

from telemetry.settings import Settings
from tests.faults.scene import END_WITHIN_S
from tests.support.gateway import forget_session, gateway
from tests.support.ingesting import ingesting, outcomes
from tests.support.supervised import PATIENCE_S, supervised, until

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
VALUES = {"energy": "active_power_w", "lighting": "power_w", "parking": "occupied_spots", "waste": "fill_level_pct"}
SESSIONS = 5
"""One for each domain, and one for strays."""
ROWS = " + ".join(f"(SELECT count(*) FROM {domain}_readings)" for domain in VALUES)


def reading(domain: str, number: int) -> dict[str, Any]:
    """The reading of that number; no two alike."""
    return {"time": (START + timedelta(milliseconds=number)).isoformat(), VALUES[domain]: number % 90}


async def publish(settings: Settings, numbers: range, *, strays: int = 0) -> None:
    """Publishes a reading of each number, in turn of the domains, and messages of no domain."""
    domains = list(VALUES)
    async with gateway(settings) as sender:
        for first in range(numbers.start, numbers.stop, 8):
            many = [(domains[n % 4], n) for n in range(first, min(first + 8, numbers.stop))]
            await asyncio.gather(*(sender.send(f"{d}/{d}-{n % 3}", reading(d, n)) for d, n in many))
        for _ in range(strays):
            await sender.send("typo/x", {"power_w": 1})


async def stored(database: asyncpg.Connection, readings: int) -> None:
    """Waits until so many rows are there."""
    await until(database, f"SELECT {ROWS}", lambda rows: rows >= readings)


async def require_each_once(database: asyncpg.Connection, readings: int) -> None:
    """Every reading is there, is counted as stored once, and the ledger balances."""
    assert await database.fetchval(f"SELECT {ROWS}") == readings
    found = await outcomes(database)
    assert found["stored"] == readings
    assert found["received"] == readings + found["duplicate"] + found["unknown_topic"], found
    assert await database.fetchval("SELECT count(*) FROM ledger_hourly WHERE imbalance <> 0") == 0


@pytest.mark.asyncio
async def test_three_workers_take_four_domains_and_strays(settings: Settings, connection: asyncpg.Connection) -> None:
    async with supervised(settings, "--workers", "3") as running:
        names = await running.subscribed(SESSIONS)
        assert len(running.workers) == 3
        # The URL of the database, with its password, was given to the first process alone.
        assert not any("--set" in worker.cmdline() for worker in running.workers)
        await publish(settings, range(200), strays=3)
        await until(connection, "SELECT sum(readings) FROM ledger WHERE outcome = 'received'", lambda n: n == 203)
        assert await outcomes(connection) == {"received": 203, "stored": 200, "unknown_topic": 3}
        await require_each_once(connection, 200)
        rows = await connection.fetch("SELECT DISTINCT worker FROM ledger ORDER BY worker")
        base = settings.mqtt.client_id
        assert [row["worker"] for row in rows] == names
        assert names[:3] == [f"{base}-energy", f"{base}-lighting", f"{base}-parking"]
        await running.shows(
            "telemetry_ingest_messages_total", {name: 3.0 if "strays" in name else 50.0 for name in names}
        )
        await running.shows(
            "telemetry_ingest_messages_left_total", {name: 200.0 if "strays" in name else 0.0 for name in names}
        )
        assert await running.end() == 0


@pytest.mark.asyncio
async def test_worker_that_is_killed_is_started_again_and_nothing_is_lost(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    async with supervised(settings, "--workers", "2") as running:
        await running.subscribed(SESSIONS)
        publishing = asyncio.create_task(publish(settings, range(4_000)))
        for victim in running.workers:
            await asyncio.sleep(0.5)
            victim.kill()
        await publishing
        await stored(connection, 4_000)
        await running.subscribed(SESSIONS)
        assert running.said.count("ingest_worker_died") == 2
        await running.shows("telemetry_ingest_worker_restarts_total", {"1": 1.0, "2": 1.0})
        assert await running.end() == 0
    await require_each_once(connection, 4_000)


@pytest.mark.asyncio
async def test_sigterm_under_load_ends_all_workers_in_time(settings: Settings, connection: asyncpg.Connection) -> None:
    async with supervised(settings, "--workers", "3") as running:
        await running.subscribed(SESSIONS)
        publishing = asyncio.create_task(publish(settings, range(3_000)))
        await stored(connection, 200)
        workers = running.workers
        assert await running.end(within_s=END_WITHIN_S) == 0
        assert not any(worker.is_running() for worker in workers)
    await publishing
    async with supervised(settings, "--workers", "4") as running:
        await stored(connection, 3_000)
        assert await running.end() == 0
    await require_each_once(connection, 3_000)


@pytest.mark.asyncio
async def test_number_of_workers_may_change(settings: Settings, connection: asyncpg.Connection) -> None:
    """What came while nobody was there is held by sessions of the arrangement before, and is taken by the next one.

    With 20 in flight the broker still has most of it in its queue when the subscription is ended.
    """
    sessions = "SELECT string_agg(client_id, ' ' ORDER BY client_id) FROM ingest_sessions"
    base = settings.mqtt.client_id
    async with ingesting(settings):
        await until(connection, sessions, lambda found: found == base)
    await publish(settings, range(400), strays=1)
    async with supervised(settings, "--workers", "2", mqtt__receive_maximum=20) as running:
        await stored(connection, 400)
        await publish(settings, range(400, 800))
        await stored(connection, 800)
        several = await until(connection, sessions, lambda found: found.count(" ") == SESSIONS - 1)
        assert base not in several.split()
        assert "ingest_session_former" in running.said
        assert await running.end() == 0
    await publish(settings, range(800, 1_200), strays=1)
    async with supervised(settings, mqtt__receive_maximum=20) as running:
        await stored(connection, 1_200)
        await publish(settings, range(1_200, 1_300))
        await until(connection, sessions, lambda found: found == base)
        await stored(connection, 1_300)
        assert await running.end() == 0
    await require_each_once(connection, 1_300)
    assert (await outcomes(connection))["unknown_topic"] == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_messages_of_a_session_that_the_broker_forgot_are_not_left(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    """Only the session for strays holds them: made before the one that is new, it may not leave them."""
    async with supervised(settings, "--workers", "2") as running:
        before = await running.subscribed(SESSIONS)
        await until(connection, "SELECT count(*) FROM ingest_sessions WHERE answered", lambda n: n == SESSIONS)
        assert await running.end() == 0
    await forget_session(settings, f"{settings.mqtt.client_id}-lighting")
    await publish(settings, range(40), strays=1)
    async with supervised(settings, "--workers", "2") as running:
        await stored(connection, 40)
        await running.says("ingest_session_emptied")
        after = await running.subscribed(SESSIONS)
        assert [a == b for a, b in zip(after, before, strict=True)] == ["strays" not in name for name in before]
        await publish(settings, range(40, 80), strays=1)
        await stored(connection, 80)
        assert await running.end() == 0
    assert (await outcomes(connection))["unknown_topic"] == 2
    await require_each_once(connection, 80)


@pytest.mark.asyncio
async def test_second_process_of_the_same_name_waits_and_takes_over(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(supervised(settings, "--workers", "2"))
        names = await first.subscribed(SESSIONS)
        second = await stack.enter_async_context(supervised(settings, "--workers", "2"))
        for name in names:
            await second.says(f"another process ingests as {name};")
        assert '"stands_by"' in second.said
        assert sum((await second.samples("telemetry_ingest_mqtt_connected")).values()) == 0
        await publish(settings, range(100))
        await stored(connection, 100)
        await first.shows(
            "telemetry_ingest_messages_total", {name: 0.0 if "strays" in name else 25.0 for name in names}
        )
        assert await first.end() == 0
        await publish(settings, range(100, 200))
        await stored(connection, 200)
        assert await second.subscribed(SESSIONS) == names
        assert await second.end() == 0
    assert (await outcomes(connection)) == {"received": 200, "stored": 200}


@pytest.mark.asyncio
async def test_broker_shares_out_where_it_is_asked_to(settings: Settings, connection: asyncpg.Connection) -> None:
    async with supervised(settings, "--workers", "2", ingest__share="broker") as running:
        names = await running.subscribed(2)
        assert names == [f"{settings.mqtt.client_id}-{number}" for number in (1, 2)]
        await publish(settings, range(400), strays=2)
        await until(connection, "SELECT sum(readings) FROM ledger WHERE outcome = 'received'", lambda n: n == 402)
        rows = await connection.fetch("SELECT DISTINCT worker FROM ledger ORDER BY worker")
        assert [row["worker"] for row in rows] == names
        await running.says("ingest_share_unfit")
        assert running.said.count("ingest_share_unfit") == 1
        assert await running.end() == 0
    assert await outcomes(connection) == {"received": 402, "stored": 400, "unknown_topic": 2}


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_strays_that_are_ignored_cost_no_session(settings: Settings, connection: asyncpg.Connection) -> None:
    async with supervised(settings, "--workers", "2", ingest__strays="ignore") as running:
        await running.subscribed(SESSIONS - 1)
        await publish(settings, range(40), strays=1)
        await stored(connection, 40)
        assert await running.end() == 0
    assert await outcomes(connection) == {"received": 40, "stored": 40}


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_more_workers_than_domains_are_refused(settings: Settings) -> None:
    async with supervised(settings, "--workers", "5") as running:
        assert await asyncio.wait_for(running.process.wait(), PATIENCE_S) == 1
        assert "set at most 4 workers, or ingest.share: broker" in running.said
        assert "Traceback" not in running.said


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_fault_that_a_worker_tells_ends_all(settings: Settings, empty_database_url: str) -> None:
    async with supervised(settings, "--workers", "3", database__url=empty_database_url) as running:
        assert await asyncio.wait_for(running.process.wait(), PATIENCE_S) == 1
        assert "run `telemetry db migrate`" in running.said
        assert "has ended with code 1" in running.said
        assert "Traceback" not in running.said


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_workers_do_not_outlive_their_supervisor(settings: Settings) -> None:
    async with supervised(settings, "--workers", "2") as running:
        await running.subscribed(SESSIONS)
        workers = running.workers
        running.process.send_signal(signal.SIGKILL)
        await running.process.wait()
        _, alive = await asyncio.to_thread(psutil.wait_procs, workers, PATIENCE_S)
        assert alive == []
