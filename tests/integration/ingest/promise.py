"""Plays a script with the real parts, and holds everything that is seen to the promise."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import timedelta
from typing import Final

import asyncpg
from mqtt5 import QoS

from telemetry.domains import Registry, load_domains
from telemetry.mqtt.session import State
from telemetry.settings import Settings
from telemetry.store.batch import Batch
from telemetry.store.pool import connect
from tests.integration.ingest.broker_model import Broker, Message
from tests.integration.ingest.commit_proxy import CommitProxy, Cut
from tests.integration.ingest.process_model import Process, backends_gone
from tests.integration.ingest.readings_model import MAX_PAYLOAD_BYTES, POISON, ROOT, START, Expected
from tests.integration.ingest.script import (
    ALL,
    Acknowledge,
    Deliver,
    Die,
    Lose,
    Noise,
    Publish,
    Restart,
    Script,
    Settle,
    Silence,
    Step,
    Terminate,
    World,
    Write,
    WriteAndDie,
)

_ROUNDS: Final = 500
"""After a script this is enough for everything to come to its end."""


class Promise:
    """Checks scripts, one after the other, in the same database; each has devices and a client id of its own."""

    def __init__(self, settings: Settings, database: asyncpg.Connection, proxy: CommitProxy) -> None:
        self._settings = settings
        self._database = database
        self._proxy = proxy
        self._registry = load_domains(())
        self._checked = 0
        self._outcomes: Counter[str] = Counter()

    @classmethod
    async def open(cls, settings: Settings) -> Promise:
        """Connects to the database, for the checks directly."""
        proxy = CommitProxy(settings.database.url.get_secret_value())
        direct = await connect(settings, "test")
        await direct.execute(f"ALTER TABLE lighting_readings ADD CHECK (attributes ->> 'note' <> '{POISON}')")
        url = await proxy.open()
        database = settings.database.model_validate({**settings.database.model_dump(), "url": url})
        return cls(settings.model_copy(update={"database": database}), direct, proxy)

    async def close(self) -> None:
        """Ends the connections."""
        await self._proxy.close()
        await self._database.close()

    def told(self) -> str:
        """What was checked."""
        return f"{self._checked} scripts, readings: {dict(sorted(self._outcomes.items()))}"

    async def check(self, script: Script) -> None:
        """Plays a script to its end."""
        self._checked += 1
        city = f"city-{self._checked}"
        player = _Player(
            self._world(script.world, city), self._registry, self._database, self._proxy, script.world, city
        )
        try:
            for step in script.steps:
                await player.play(step)
            await player.finish()
            self._outcomes += player.expected.ledger
        finally:
            await player.end()

    def _world(self, world: World, city: str) -> Settings:
        mqtt = {"client_id": city, "topic_root": ROOT, "receive_maximum": world.receive_maximum}
        ingest = {
            "batch_rows": world.batch_rows,
            "batch_age": timedelta(milliseconds=1),
            "max_payload_bytes": MAX_PAYLOAD_BYTES,
        }
        return self._settings.model_copy(
            update={
                "mqtt": self._settings.mqtt.model_copy(update=mqtt),
                "ingest": self._settings.ingest.model_copy(update=ingest),
            }
        )


class _Player:
    """A broker, the lives of an ingest process, and what must have become of the messages."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        database: asyncpg.Connection,
        proxy: CommitProxy,
        world: World,
        city: str,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._database = database
        self._proxy = proxy
        self._city = city
        self._now = 1_000.0
        self._epoch = 0
        self._committed: set[Message] = set()
        self._told: set[Message] = set()
        self.expected = Expected(city)
        self._broker = Broker(world.overrun, world.open_ids, self._may_be_acknowledged)
        self._process = self._start()

    async def play(self, step: Step) -> None:
        """Lets a step happen, and the pipeline go on for a moment."""
        await asyncio.sleep(0.0005)
        match step:
            case Publish(contents, qos):
                for content in contents:
                    self._broker.publish(content, content.topic(self._city), qos)
            case Deliver(size):
                self._deliver(size)
            case Write(cut):
                await self._write(cut)
            case WriteAndDie(cut):
                await self._write(cut, die=True)
            case Settle(which):
                self._settle(which)
            case Acknowledge(size):
                self._broker.hear(size)
            case Lose():
                self._lose()
            case Silence(seconds):
                self._wait(seconds)
            case Noise():
                self._broker.down += b"\x00\x00"
            case Restart(other_ids):
                self._lose()
                self._broker.restart(other_ids)
            case Die():
                await self._die()
            case Terminate():
                await self._terminate()

    async def finish(self) -> None:
        """Lets everything come to its end without further faults, and compares it with what must be."""
        self._proxy.plan(None)
        for _ in range(_ROUNDS):
            self._deliver(ALL)
            wrote = await self._write(None)
            while self._process.settled:
                self._settle(0)
            self._broker.hear(ALL)
            if self._broker.drained and not wrote and not self._broker.down:
                break
        else:
            raise AssertionError("not everything was acknowledged in the end")
        held = [message for message in self._broker.messages if message.qos is not QoS.AT_MOST_ONCE]
        assert [message for message in held if message not in self._committed] == []
        await self._compare()

    async def end(self) -> None:
        """Leaves nothing behind."""
        self._proxy.plan(None)
        self._proxy.cut_all()
        await self._process.die()
        await backends_gone(self._database)

    def _start(self) -> Process:
        return Process(self._settings, self._registry, self._broker, self._judge)

    def _deliver(self, size: int) -> None:
        session = self._process.session
        if session.state is State.IDLE:
            self._epoch = session.connect(self._now)
            self._send()
            self._broker.hear(ALL)
        if session.state is State.READY and (session.is_overrun or self._process.paused):
            return
        data = bytes(self._broker.down[:size])
        del self._broker.down[:size]
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        session = self._process.session
        self._process.take(*session.receive(data, self._now))
        self._send()
        if session.state is State.SUBSCRIBING:
            self._broker.hear(ALL)

    def _send(self) -> None:
        """What the session has to say is on its way to the broker; where it has ended, the connection is closed."""
        session = self._process.session
        self._broker.send(session.output(self._now))
        if session.state is State.ENDED:
            self._lose()

    def _settle(self, which: int) -> None:
        settled = self._process.settled
        if settled:
            first, end = settled.pop(which % len(settled))
            self._told |= {self._process.numbers[number] for number in range(first, end)}
            self._process.session.settle(first, end)
            self._send()

    def _may_be_acknowledged(self, message: Message) -> bool:
        return message in self._committed and message in self._told

    def _lose(self) -> None:
        self._process.session.lost(self._epoch)
        self._broker.disconnect()

    def _wait(self, seconds: float) -> None:
        self._now += seconds
        self._process.session.tick(self._now)
        self._send()

    async def _write(self, cut: Cut | None, *, die: bool = False) -> bool:
        """Whether there was a batch to write."""
        process, writer = self._process, self._process.writer
        self._proxy.plan(None)
        if not await process.at_gate():
            return False
        batch = writer.waiting
        assert batch is not None
        self._proxy.plan(cut)
        writer.gate.release()
        await process.until(lambda: writer.written is batch or (die and self._proxy.done.is_set()))
        if die:
            await self._die()
        return True

    async def _die(self) -> None:
        """The process is gone; what it was writing is either committed, or not."""
        process, writing = self._process, self._process.writer.writing
        self._lose()
        self._proxy.cut_all()
        await process.die()
        await backends_gone(self._database)
        if writing is not None and await self._ledger() != self.expected.ledger:
            await self._judge(writing)
        self._proxy.plan(None)
        self._process = self._start()

    async def _terminate(self) -> None:
        await self._database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'telemetry ingest%'"
        )

    async def _judge(self, batch: Batch) -> None:
        """A batch is committed: the ledger must have grown by its readings, each with its outcome, exactly once."""
        for message in self._process.content(batch):
            self.expected.settle(message.content)
            self._committed.add(message)
        assert await self._ledger() == self.expected.ledger

    async def _ledger(self) -> Counter[str]:
        rows = await self._database.fetch(
            "SELECT outcome, sum(readings)::int AS readings FROM ledger WHERE worker = $1 GROUP BY outcome", self._city
        )
        found = Counter({row["outcome"]: row["readings"] for row in rows})
        sides = found["received"] - sum(found.values()) + found["received"] + found["merged"]
        assert sides == 0, found
        return found

    async def _compare(self) -> None:
        """The tables hold what they must, and nothing else."""
        rows = await self._database.fetch(
            "SELECT r.*, device_id FROM lighting_readings AS r JOIN devices USING (device_key)"
            " WHERE starts_with(device_id, $1)",
            f"{self._city}-",
        )
        found = {}
        for row in rows:
            named = {name: row[name] for name in ("power_w", "lamp_on") if row[name] is not None}
            named |= json.loads(row["attributes"] or "{}")
            minute = round((row["time"] - START) / timedelta(minutes=1))
            found[int(row["device_id"].rpartition("-")[2]), minute] = named
        assert found == self.expected.rows
        assert len(rows) == len(found)
        refused = await self._database.fetch(
            "SELECT topic, payload, reason, position FROM quarantine WHERE topic ~ $1", f"/{self._city}(-|$)"
        )
        assert Counter(tuple(row) for row in refused) == self.expected.quarantine
        assert await self._ledger() == self.expected.ledger
