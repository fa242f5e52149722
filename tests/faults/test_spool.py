"""The database is away, and the broker's queue is short: the spool loses nothing, doubles nothing, keeps the order."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncpg.transaction import Transaction

from telemetry.demo import http
from telemetry.demo.mosquitto import LocalMosquitto
from telemetry.demo.postgres import LocalPostgres
from telemetry.demo.server import free_port
from telemetry.ingest.spool import Spool, SpoolFull
from telemetry.settings import Settings, load_settings
from telemetry.store.engine import Engine
from telemetry.store.migrate import migrate
from telemetry.store.pool import connection as connected
from tests.faults.scene import END_WITHIN_S
from tests.support.broker_fixtures import MosquittoFactory
from tests.support.disks import small_disk
from tests.support.gateway import gateway
from tests.support.ingesting import PATIENCE_S, ingesting, outcomes
from tests.support.server import find_bindir, server_options, temporary_directory

SLOW_COPY = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END';
CREATE TRIGGER slow BEFORE INSERT ON lighting_readings FOR EACH STATEMENT EXECUTE FUNCTION slow()
"""
START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


@dataclass
class City:
    """A database that can be taken away, and the settings of an ingest with a spool.

    Attributes:
        file: where the spool is.
    """

    settings: Settings
    server: LocalPostgres
    file: Path

    def with_settings(self, **changed: Any) -> City:
        """The same with other settings: `section__name=value`."""
        updated = self.settings.model_dump()
        for name, value in changed.items():
            section, _, setting = name.partition("__")
            updated[section][setting] = value
        return City(Settings.model_validate(updated), self.server, self.file)

    async def leave(self) -> None:
        """The database goes away."""
        await asyncio.to_thread(self.server.stop, "immediate")

    async def come_back(self) -> None:
        """It is there again."""
        await asyncio.to_thread(self.server.start)

    async def settled(self, readings: int) -> Counter[str]:
        """Waits until so many readings are in the ledger, which must balance, and returns them by outcome."""
        deadline = time.monotonic() + 2 * PATIENCE_S
        async with connected(self.settings, "test") as database:
            while (found := await outcomes(database))["received"] < readings:
                assert time.monotonic() < deadline, f"{readings} readings were expected: {found}"
                await asyncio.sleep(0.05)
            async with database.transaction(isolation="repeatable_read", readonly=True):
                found = await outcomes(database)
                assert await database.fetchval("SELECT count(*) FROM ledger_hourly WHERE imbalance <> 0") == 0
                assert await database.fetchval("SELECT count(*) FROM lighting_readings") == found["stored"]
        return found


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgres]:
    """A server that is taken away again and again."""
    bindir, _ = find_bindir()
    with temporary_directory() as directory:
        made = LocalPostgres(directory, bindir, options=server_options(bindir))
        try:
            yield made
        finally:
            made.stop("immediate")


@pytest_asyncio.fixture
async def city(server: LocalPostgres, engine: Engine, mosquitto: LocalMosquitto, tmp_path: Path) -> City:
    """A city whose messages go to the spool after 0.3 s."""
    name = f"city_{uuid.uuid4().hex[:12]}"
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(server.create_database, name)
    (tmp_path / "spool").mkdir()
    settings = load_settings(
        overrides={
            "database.url": server.url(name),
            "database.engine": engine,
            "mqtt.port": mosquitto.port,
            "mqtt.topic_root": f"test/{name}",
            "mqtt.client_id": name,
            "ingest.metrics_port": 0,
            "ingest.batch_age": "10ms",
            "spool.directory": tmp_path / "spool",
            "spool.after": "300ms",
            "spool.quota": "64MiB",
        }
    )
    await migrate(settings)
    return City(settings, server, tmp_path / "spool" / f"{name}.sqlite")


def reading(number: int) -> dict[str, Any]:
    """The reading of that number; no two alike."""
    return {"time": (START + timedelta(milliseconds=number)).isoformat(), "power_w": float(number % 9_000)}


async def publish(settings: Settings, numbers: range, pause_s: float = 0.0, filler: str = "") -> None:
    """Publishes readings at the QoS of the settings, with a pause after each, or eight at a time."""
    more = {"filler": filler} if filler else {}
    async with gateway(settings) as sender:
        for first in range(numbers.start, numbers.stop, step := 1 if pause_s else 8):
            many = range(first, min(first + step, numbers.stop))
            await asyncio.gather(
                *(sender.send(f"lighting/lamp-{n % 7}", {**reading(n), **more}, settings.mqtt.qos) for n in many)
            )
            await asyncio.sleep(pause_s)


async def metric(url: str, name: str) -> float | None:
    """One of the metrics of ingest; None while it shows none."""
    return http.metric(await http.get(url, within_s=30) or "", f"telemetry_ingest_{name}")


async def reaches(url: str, name: str, value: float) -> None:
    """Waits until a metric is that high."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := await metric(url, name)) is None or found < value:
        assert time.monotonic() < deadline, f"{name} is {found}, not {value}"
        await asyncio.sleep(0.02)


async def becomes(url: str, name: str, value: float) -> None:
    """Waits until a metric has that value; it follows what it tells of by a moment."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := await metric(url, name)) != value:
        assert time.monotonic() < deadline, f"{name} is {found}, not {value}"
        await asyncio.sleep(0.02)


async def ends(city: City) -> None:
    """Waits until nothing is in the spool."""
    deadline = time.monotonic() + PATIENCE_S
    while city.file.exists():
        assert time.monotonic() < deadline, "the spool was not drained"
        await asyncio.sleep(0.02)


class Process:
    """`telemetry ingest` as a process that can be killed."""

    def __init__(self, city: City, log: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/metrics"
        self._log = log
        settings = city.settings
        variables = {
            "DATABASE__URL": settings.database.url.get_secret_value(),
            "DATABASE__ENGINE": settings.database.engine,
            "MQTT__PORT": settings.mqtt.port,
            "MQTT__TOPIC_ROOT": settings.mqtt.topic_root,
            "MQTT__CLIENT_ID": settings.mqtt.client_id,
            "INGEST__METRICS_PORT": port,
            "INGEST__BATCH_AGE": "10ms",
            "INGEST__BATCH_ROWS": settings.ingest.batch_rows,
            "SPOOL__DIRECTORY": settings.spool.directory,
            "SPOOL__AFTER": f"{settings.spool.after.total_seconds()}s",
        }
        environment = {**os.environ, **{f"TELEMETRY_{name}": str(value) for name, value in variables.items()}}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "telemetry", "ingest"], env=environment, stdout=output, stderr=output
            )

    @property
    def said(self) -> str:
        """Its log."""
        return self._log.read_text()

    async def end(self, how: signal.Signals) -> int:
        """Ends it; its exit code."""
        self.process.send_signal(how)
        return await self.ended()

    async def ended(self) -> int:
        """Waits for its end."""
        return await asyncio.to_thread(self.process.wait, PATIENCE_S)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[City], Process]]:
    """Starts processes, and kills at the end what still runs."""
    started: list[Process] = []

    def make(city: City) -> Process:
        started.append(Process(city, tmp_path / "ingest.log"))
        return started[-1]

    yield make
    for each in started:
        each.process.kill()
        each.process.wait()


@asynccontextmanager
async def database_away(city: City) -> AsyncIterator[None]:
    """The database is away while the block runs."""
    await city.leave()
    try:
        yield
    finally:
        await city.come_back()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("spooled", "qos"), [(True, 1), (True, 2), (False, 1)], ids=["spool", "spool at QoS 2", "none"]
)
async def test_outage_under_load_with_a_short_queue_loses_nothing_but_without_the_spool(
    city: City, mosquitto_factory: MosquittoFactory, spooled: bool, qos: int
) -> None:
    broker = mosquitto_factory(options={"max_queued_messages": "100"})
    city = city.with_settings(mqtt__port=broker.port, mqtt__receive_maximum=20, mqtt__qos=qos)
    if not spooled:
        city = city.with_settings(spool__directory=None)
    total = 0
    enough = asyncio.Event()

    async def publish_on() -> None:
        nonlocal total
        async with gateway(city.settings) as sender:
            while not enough.is_set():
                await sender.send(f"lighting/lamp-{total % 7}", reading(total), qos)
                total += 1
                await asyncio.sleep(0.004)

    async with ingesting(city.settings) as url:
        publishing = asyncio.create_task(publish_on())
        await reaches(url, "messages_total", 20)
        async with database_away(city):
            before = total
            if spooled:
                await reaches(url, "spool_messages", 300)
                assert await metric(url, "spooling") == 1
                assert (await metric(url, "spool_bytes") or 0) > 10_000
            while total < before + 300:
                await asyncio.sleep(0.02)
            enough.set()
            await publishing
        if spooled:
            found = await city.settled(total)
            await ends(city)
            await publish(city.settings, range(total, total + 10))
            assert await city.settled(total + 10) == {"received": total + 10, "stored": total + 10}
            assert found == {"received": total, "stored": total}
            await becomes(url, "spooling", 0)
            await becomes(url, "spool_messages", 0)
        else:
            await reaches(url, "messages_total", 21)
            await asyncio.sleep(2)
            assert (await city.settled(1))["stored"] < total


@pytest.mark.long
@pytest.mark.asyncio
async def test_messages_keep_their_order_through_the_spool(city: City) -> None:
    """The first reading of a device and time stays: whichever overtook the other would be seen."""
    total = 150
    async with ingesting(city.settings) as url, gateway(city.settings) as sender:

        async def say(value: float, numbers: range) -> None:
            for number in numbers:
                await sender.send("lighting/lamp", {**reading(number), "power_w": value})

        await say(1.0, range(50))
        await city.settled(50)
        async with database_away(city):
            await say(1.0, range(50, total))
            await reaches(url, "spool_messages", 60)
            await say(2.0, range(50))
        await say(2.0, range(50, total))
        assert await city.settled(2 * total) == {"received": 2 * total, "stored": total, "conflict": total}
    async with connected(city.settings, "test") as database:
        assert await database.fetchval("SELECT count(*) FROM lighting_readings WHERE power_w = 1") == total


@pytest.mark.long
@pytest.mark.asyncio
async def test_kill_while_spooling_loses_and_doubles_nothing(city: City, start: Callable[[City], Process]) -> None:
    process = start(city)
    await reaches(process.url, "mqtt_connected", 1)
    total = 0
    async with gateway(city.settings) as sender:

        async def publish_on() -> None:
            nonlocal total
            while True:
                await sender.send(f"lighting/lamp-{total % 7}", reading(total))
                total += 1
                await asyncio.sleep(0.005)

        publishing = asyncio.create_task(publish_on())
        await reaches(process.url, "messages_total", 20)
        async with database_away(city):
            for _ in range(3):
                await reaches(process.url, "spooled_messages_total", 50)
                await process.end(signal.SIGKILL)
                process = start(city)
            publishing.cancel()
            await asyncio.wait({publishing})
    # The last one may have been sent, or not.
    await publish(city.settings, range(total, total + 1))
    total += 1
    async with connected(city.settings, "test") as database, asyncio.timeout(2 * PATIENCE_S):
        while await database.fetchval("SELECT count(*) FROM lighting_readings") < total:
            assert process.process.poll() is None, process.said
            await asyncio.sleep(0.05)
    await ends(city)
    found = await city.settled(total)
    assert found["stored"] == total
    assert found["received"] == total + found["duplicate"]


@pytest.mark.asyncio
async def test_kill_while_draining_counts_nothing_twice(city: City, start: Callable[[City], Process]) -> None:
    total = 2_000
    city = city.with_settings(ingest__batch_rows=5)
    process = start(city)
    await reaches(process.url, "mqtt_connected", 1)
    async with database_away(city):
        await publish(city.settings, range(total))
        await reaches(process.url, "spooled_messages_total", total)
    kills = 0
    async with connected(city.settings, "test") as database, asyncio.timeout(2 * PATIENCE_S):
        # Else it may be drained before we look again.
        await database.execute(SLOW_COPY)
        while city.file.exists():
            before = await database.fetchval("SELECT count(*) FROM lighting_readings")
            while city.file.exists() and before == await database.fetchval("SELECT count(*) FROM lighting_readings"):
                assert process.process.poll() is None, process.said
                await asyncio.sleep(0.005)
            if kills < 5 and city.file.exists():
                await process.end(signal.SIGKILL)
                kills += 1
                process = start(city)
            if kills == 5:
                await database.execute("DROP TRIGGER IF EXISTS slow ON lighting_readings")
    assert kills >= 3
    # Everything was acknowledged before, so nothing is delivered again: a repetition could only be ours.
    assert await city.settled(total) == {"received": total, "stored": total}


@asynccontextmanager
async def _crashing(city: City) -> AsyncIterator[str]:
    """Ingest runs as in `ingesting`, and ends with the error of the test."""
    try:
        async with ingesting(city.settings) as url:
            yield url
    except RuntimeError as error:
        assert str(error) == "killed here"  # noqa: PT017 - on leaving the block it is raised
    else:
        pytest.fail("ingest was not killed")


@pytest.mark.asyncio
async def test_crash_between_commit_and_removal_counts_nothing_twice(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    city = city.with_settings(ingest__batch_rows=20)
    real = Spool.remove_first

    def crash(spool: Spool) -> None:
        if spool.messages < 250:
            raise RuntimeError("killed here")
        real(spool)

    monkeypatch.setattr(Spool, "remove_first", crash)
    async with _crashing(city) as url:
        async with database_away(city):
            # Without a time, a second one could not be told from the first.
            async with gateway(city.settings) as sender:
                for number in range(300):
                    await sender.send(f"lighting/lamp-{number % 7}", {"power_w": float(number)})
            await reaches(url, "spooled_messages_total", 300)
        while await metric(url, "messages_total") is not None:
            await asyncio.sleep(0.1)
    monkeypatch.undo()
    async with ingesting(city.settings):
        await ends(city)
    assert await city.settled(300) == {"received": 300, "stored": 300}


@pytest.mark.asyncio
async def test_disk_that_fails_for_a_moment_at_the_start_ends_nothing(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ingesting(city.settings) as url:
        await publish(city.settings, range(10))
        await city.settled(10)
        await city.leave()
        await publish(city.settings, range(10, 50))
        await reaches(url, "spooled_messages_total", 40)
    real, failures = Spool.remove_committed, 2

    def fail(spool: Spool, *arguments: Any) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise SpoolFull("the spool has no room: disk I/O error")
        real(spool, *arguments)

    monkeypatch.setattr(Spool, "remove_committed", fail)
    await city.come_back()
    async with ingesting(city.settings):
        assert await city.settled(50) == {"received": 50, "stored": 50}
        await ends(city)
    assert failures == 0


@pytest.mark.long
@pytest.mark.asyncio
@pytest.mark.parametrize("committed", [True, False])
async def test_commit_that_is_open_when_spooling_begins_is_counted_once(
    city: City, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    city = city.with_settings(spool__after="2s")  # on a busy machine, 0.3 s may pass before that commit
    real = Transaction.commit
    hung = asyncio.Event()

    async def commit(transaction: Any) -> None:
        if not hung.is_set() and not transaction._nested:
            if committed:
                await real(transaction)
            hung.set()
            await asyncio.sleep(3_600)
        await real(transaction)

    async with ingesting(city.settings) as url:
        monkeypatch.setattr(Transaction, "commit", commit)
        async with gateway(city.settings) as sender:
            for number in range(50):
                await sender.send(f"lighting/lamp-{number % 7}", {"power_w": float(number)})
        await asyncio.wait_for(hung.wait(), PATIENCE_S)
        assert await city.settled(50) == {"received": 50, "stored": 50}
        assert await metric(url, "messages_total") == 50


def send(number: signal.Signals, pids: list[int]) -> None:
    """Sends a signal to those of the processes that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@pytest.mark.long
@pytest.mark.asyncio
async def test_server_that_stops_answering_is_left_for_the_spool(city: City) -> None:
    """SIGSTOP: connections stay open, and nothing that is sent over them is ever answered."""
    async with ingesting(city.settings) as url:
        await publish(city.settings, range(50))
        await city.settled(50)
        async with connected(city.settings, "test") as database:
            pids = [
                row["pid"] for row in await database.fetch("SELECT pid FROM pg_stat_activity WHERE pid IS NOT NULL")
            ]
        pids = [city.server.pid, *pids]
        send(signal.SIGSTOP, pids)
        try:
            await publish(city.settings, range(50, 300))
            await reaches(url, "spooled_messages_total", 250)
        finally:
            send(signal.SIGCONT, pids)
        assert await city.settled(300) == {"received": 300, "stored": 300}


@pytest.mark.long
@pytest.mark.asyncio
async def test_second_process_of_a_name_with_a_spool_elsewhere_leaves_the_session_alone(
    city: City, start: Callable[[City], Process], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    async with ingesting(city.settings) as url:
        second = start(city.with_settings(spool__directory=tmp_path / "elsewhere"))
        while "another process ingests" not in second.said:
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)  # more than spool.after
        await publish(city.settings, range(20))
        assert await city.settled(20) == {"received": 20, "stored": 20}
        assert await metric(second.url, "mqtt_connected") == await metric(url, "mqtt_reconnects_total") == 0
        assert await second.end(signal.SIGTERM) == 0


@pytest.mark.asyncio
async def test_full_spool_acknowledges_nothing_more_until_there_is_room(city: City) -> None:
    city = city.with_settings(
        ingest__batch_bytes="32KiB",
        ingest__max_payload_bytes="32KiB",
        ingest__batch_rows=100,
        spool__quota="256KiB",
        mqtt__receive_maximum=500,
    )
    async with ingesting(city.settings) as url:
        async with database_away(city):
            publishing = asyncio.create_task(publish(city.settings, range(1_000), filler="x" * 1_000))
            await reaches(url, "spool_full", 1)
            await publishing
            await reaches(url, "mqtt_in_flight_messages", 150)
            kept = await metric(url, "spooled_messages_total")
            await asyncio.sleep(1.2)
            assert await metric(url, "spooled_messages_total") == kept
            assert city.file.stat().st_size <= 256 * 1024
        assert await city.settled(1_000) == {"received": 1_000, "stored": 1_000}
        await ends(city)
        await becomes(url, "spool_full", 0)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    with small_disk(tmp_path / "disk", "1m") as made:
        yield made


@pytest.mark.long
@pytest.mark.asyncio
@pytest.mark.parametrize("room", [True, False], ids=["some room", "no room"])
async def test_disk_full_under_the_spool_loses_nothing(city: City, disk: Path, room: bool) -> None:
    city = city.with_settings(ingest__batch_rows=100, spool__directory=disk, mqtt__receive_maximum=500)
    city.file = disk / city.file.name
    if not room:
        (disk / "other").write_bytes(b"x" * (1024 * 1024 - 8192))
    async with ingesting(city.settings) as url:
        async with database_away(city):
            publishing = asyncio.create_task(publish(city.settings, range(400), filler="x" * 4_000))
            await reaches(url, "spool_full", 1)
            await publishing
            assert ((await metric(url, "spooled_messages_total")) == 0) is not room
        assert await city.settled(400) == {"received": 400, "stored": 400}
        await ends(city)


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_full_disk_takes_messages_again_before_the_spool_is_empty(city: City, tmp_path: Path) -> None:
    """As where the quota is full: what is drained makes room."""
    with small_disk(tmp_path / "disk", "4m") as disk:
        city = city.with_settings(ingest__batch_rows=20, mqtt__receive_maximum=500, spool__directory=disk)
        city.file = disk / city.file.name
        async with ingesting(city.settings) as url:
            async with database_away(city):
                publishing = asyncio.create_task(publish(city.settings, range(1_200), filler="x" * 4_000))
                await reaches(url, "spool_full", 1)
                await publishing
                kept = await metric(url, "spooled_messages_total")
            assert kept is not None
            await reaches(url, "spooled_messages_total", kept + 1)
            assert await city.settled(1_200) == {"received": 1_200, "stored": 1_200}
            await ends(city)


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_spool_is_told_at_the_end_and_from_the_next_start(city: City, start: Callable[[City], Process]) -> None:
    process = start(city)
    await reaches(process.url, "mqtt_connected", 1)
    async with database_away(city):
        await publish(city.settings, range(200))
        await reaches(process.url, "spooled_messages_total", 200)
        assert await process.end(signal.SIGTERM) == 0
        last = [line for line in process.said.splitlines() if "ingest_stopped" in line]
        assert len(last) == 1
        told = json.loads(last[0])
        assert (told["file"], told["messages"]) == (str(city.file), 200)
        assert "acknowledged" in told["detail"]
        # Nothing is received until `spool.after` has passed twice, but what is there is known before.
        process = start(city.with_settings(spool__after="5s"))
        shown = set[float]()
        while (connected := await metric(process.url, "mqtt_connected")) != 1:
            assert process.process.poll() is None, process.said
            if connected is not None:
                shown.add(await metric(process.url, "spool_messages") or 0.0)
            await asyncio.sleep(0.02)
        assert await metric(process.url, "spool_messages") == 200
        assert {each for each in shown if not math.isnan(each)} == {200.0}
        assert (await metric(process.url, "spool_bytes") or 0) > 10_000
    assert await city.settled(200) == {"received": 200, "stored": 200}
    await ends(city)
    assert await metric(process.url, "spool_messages") == await metric(process.url, "spooling") == 0


def damage(file: Path, this: bytes, to: bytes) -> None:
    """Changes bytes wherever they are, or changes them back: SQLite may have moved them to another page meanwhile."""
    data = file.read_bytes()
    assert this in data
    file.write_bytes(data.replace(this, to))


@pytest.mark.asyncio
async def test_end_while_spooling_acknowledges_what_is_kept_and_damage_halts_the_next_start(
    city: City, start: Callable[[City], Process], mosquitto_factory: MosquittoFactory
) -> None:
    city = city.with_settings(mqtt__port=mosquitto_factory().port)
    process = start(city)
    await reaches(process.url, "mqtt_connected", 1)
    async with database_away(city):
        publishing = asyncio.create_task(publish(city.settings, range(600), pause_s=0.002))
        await reaches(process.url, "spooled_messages_total", 100)
        began = time.monotonic()
        assert await process.end(signal.SIGTERM) == 0
        assert time.monotonic() - began < END_WITHIN_S
        await publishing
        damage(city.file, b'"power_w"', b'"Power_w"')
        process = start(city)
        await reaches(process.url, "mqtt_connected", 1)
    assert await process.ended() == 1
    assert f"the spool {city.file} is damaged: the digest" in " ".join(process.said.split())
    damage(city.file, b'"Power_w"', b'"power_w"')
    damage(city.file, b"SQLite format 3", b"SQLite format 4")
    process = start(city)
    assert await process.ended() == 1
    assert "file is not a database" in process.said
    damage(city.file, b"SQLite format 4", b"SQLite format 3")
    process = start(city)
    found = await city.settled(600)
    assert found["stored"] == 600
    assert await process.end(signal.SIGTERM) == 0
