"""One run: publish a load, watch the process under test until everything is settled, and account for it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import asyncpg

from tests.benchmarks.figures import Sample
from tests.benchmarks.load import Load
from tests.benchmarks.machine import calibrate
from tests.benchmarks.stand import PATIENCE_S, Ingest, Site, Subject, cpu_s, dying_with_us

WINDOW: Final = 100_000
"""Messages that the broker may hold at full speed. Publisher and subscriber then go at the same pace, as they
would have to for ever."""
UNBOUNDED: Final = 10**12
_LEDGER: Final = "SELECT coalesce(sum(received), 0)::bigint FROM ledger_hourly"
_ROWS: Final = "SELECT count(*) FROM lighting_readings"
_ACCOUNT: Final = """
    SELECT coalesce(sum(received), 0)::bigint, coalesce(sum(stored), 0)::bigint,
           coalesce(sum(abs(imbalance)), 0)::bigint
    FROM ledger_hourly
"""


@dataclass(frozen=True)
class Run:
    """What was measured.

    Attributes:
        missing: messages that are not stored, and the imbalance of the ledger.
        rate: messages per second from the first published to the last committed.
        cpu_us: CPU microseconds of the process for each message, user and system.
        broker_us: those of the broker, for both of its sides.
        calibration_s: see `machine.calibrate`, just before.
        began: when publishing began.
    """

    messages: int
    missing: int
    rate: float
    cpu_us: float
    broker_us: float
    rss: list[Sample]
    calibration_s: float
    began: datetime


class Publishing:
    """The publisher's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, load: Load) -> Publishing:
        """Started, with its packets made, waiting for `allow`."""
        pipe, command = asyncio.subprocess.PIPE, dying_with_us(load.command())
        # A session of its own, so that Ctrl-C is for us, who end it.
        publishing = cls(
            await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, start_new_session=True)
        )
        if await publishing._line() != "ready":
            await publishing.end()
            raise RuntimeError("the publisher did not start; its error is above")
        return publishing

    def allow(self, messages: int) -> None:
        """Lets it go so far."""
        assert self._process.stdin is not None
        if self._process.returncode is None:
            self._process.stdin.write(b"%d\n" % messages)

    async def result(self) -> dict[str, float]:
        """What it says at its end."""
        said = await self._line()
        if not said:
            raise RuntimeError("the publisher failed; its error is above")
        found: dict[str, float] = json.loads(said)
        return found

    async def end(self) -> None:
        """Ends it, if it has not ended."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def _line(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()


async def publish(load: Load) -> None:
    """Publishes a load without watching anyone."""
    publishing = await Publishing.start(load)
    try:
        publishing.allow(UNBOUNDED)
        await publishing.result()
    finally:
        await publishing.end()


async def settled(site: Site, rows: bool = False) -> int:
    """Messages that are settled, over a connection of its own; -1 while the database is away."""
    try:
        database = await asyncpg.connect(site.url, timeout=5)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return -1
    try:
        return int(await database.fetchval(_ROWS if rows else _LEDGER))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return -1
    finally:
        database.terminate()


async def missing(site: Site, expected: int, rows: bool = False) -> int:
    """How many of the expected messages are not stored, plus the imbalance of the ledger."""
    if rows:
        return abs(expected - await settled(site, rows=True))
    database = await asyncpg.connect(site.url)
    try:
        received, stored, imbalance = await database.fetchrow(_ACCOUNT) or (0, 0, 0)
        return max(abs(expected - received), abs(expected - stored)) + int(imbalance)
    finally:
        await database.close()


class Watch:
    """Asks how much is settled, and samples the memory of the process."""

    def __init__(self, subject: Subject, before: int) -> None:
        self.samples: list[Sample] = []
        self.settled = 0
        self._subject = subject
        self._rows = not isinstance(subject, Ingest)
        self._before = before
        self._began = self._moved = time.monotonic()

    async def look(self, database: asyncpg.Connection) -> None:
        """One look."""
        self._subject.require_alive()
        count = int(await database.fetchval(_ROWS if self._rows else _LEDGER)) - self._before
        now = time.monotonic()
        if count > self.settled:
            self.settled, self._moved = count, now
        self.samples.append((now - self._began, self._subject.rss()))

    @property
    def stuck(self) -> bool:
        """Whether nothing has moved for long."""
        return time.monotonic() - self._moved > PATIENCE_S


async def drive(subject: Subject, load: Load, before: int = 0, window: int = WINDOW) -> Run:
    """Publishes a load and waits until it is settled; `before` messages were settled at the site already."""
    calibration = calibrate()
    rows = not isinstance(subject, Ingest)
    database = await asyncpg.connect(subject.site.url)
    publishing = await Publishing.start(load)
    try:
        cpu, broker = subject.cpu_s(), cpu_s(subject.site.broker)
        began, began_at = time.monotonic(), datetime.now(UTC)
        watch = Watch(subject, before)
        while watch.settled < load.messages and not watch.stuck:
            publishing.allow(watch.settled + window)
            await asyncio.sleep(0.02 if watch.settled + window >= load.messages else 0.1)
            await watch.look(database)
        elapsed, cpu = time.monotonic() - began, subject.cpu_s() - cpu
        broker = cpu_s(subject.site.broker) - broker
        if not watch.stuck:
            await publishing.result()
    finally:
        await publishing.end()
        await database.close()
    lost = await missing(subject.site, before + load.messages, rows)
    if lost:
        print(f"{load.messages:,} messages on {subject.site.engine}: {lost:,} missing", file=sys.stderr)
    done = max(watch.settled, 1)
    cpu_us, broker_us = cpu / done * 1e6, broker / done * 1e6
    return Run(load.messages, lost, done / elapsed, cpu_us, broker_us, watch.samples, calibration, began_at)
