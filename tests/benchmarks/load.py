"""A publisher that is never the bottleneck: MQTT 3.1.1 packets put together by hand, QoS 1, many in flight.

    python -m tests.benchmarks.load '{"port": …}'      the fields of `Load`

It makes its packets, connects, and says `ready`. Each line that it then reads is the number of messages that it may
have published by now; so whoever started it decides when the clock begins, and how far the subscriber may fall behind.
When the broker has acknowledged every message it prints one JSON object. It ends when its standard input is closed.

The packets of a whole number of turns are made beforehand, in blocks, with a gap for the time; to fill the gaps of a
block is one `bytes.replace`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from tests.support.packets import CONNECT, DISCONNECT, IN_FLIGHT, PACKET_IDS, Acknowledgements, publish_packet

RING: Final = 60_000
"""Packets that are made beforehand, at the least: more than are ever in flight, so that no packet id is used twice."""
BLOCK: Final = 50
BLOCKS_AT_ONCE: Final = 40
TICK_S: Final = 0.005
GAP: Final = b"@" * len("2026-01-01T00:00:00.000000Z")

BODIES: Final = {
    "lighting": '"power_w":%d.25,"voltage_v":231.5,"dim_level_pct":80,"energy_kwh":1203.4,"lamp_on":true',
    "energy": '"active_power_w":%d.5,"voltage_l1_v":231.5,"voltage_l2_v":230.5,"energy_import_kwh":5120.75',
    "parking": '"occupied_spots":%d,"total_spots":10000,"arrivals":1204,"departures":1180,"battery_pct":88',
    "waste": '"weight_kg":%d,"fill_level_pct":41.5,"temperature_c":12.5,"tilted":false,"battery_pct":91',
}


@dataclass(frozen=True)
class Load:
    """What is published: distinct readings of devices that take turns.

    Attributes:
        rate: messages per second; 0 = as fast as the broker takes them.
        live: each reading names the moment of its sending; otherwise half an hour ago, a millisecond later each turn.
    """

    port: int
    root: str
    messages: int
    devices: int
    domains: Sequence[str]
    rate: float = 0
    live: bool = False

    def command(self) -> list[str]:
        """The process that publishes it."""
        return [sys.executable, "-m", "tests.benchmarks.load", json.dumps(asdict(self))]


class Block(NamedTuple):
    """Packets that are sent at once.

    Attributes:
        ends: where each of them ends.
        opens: whether a turn of the devices begins with it.
    """

    data: bytes
    ends: list[int]
    opens: bool

    def first(self, count: int, stamp: bytes) -> bytes:
        """So many packets, with their time."""
        return self.data[: self.ends[count - 1]].replace(GAP, stamp)


def ring(load: Load) -> list[Block]:
    """The blocks that are sent over and over: whole turns."""
    size = load.devices * max(1, RING // load.devices)
    ids = -(-size // -(-size // PACKET_IDS))
    topics = [f"{load.root}/{load.domains[n % len(load.domains)]}/load-{n}".encode() for n in range(load.devices)]
    bodies = [BODIES[load.domains[n % len(load.domains)]] for n in range(load.devices)]
    blocks: list[Block] = []
    for turn in range(0, size, load.devices):
        for begin in range(0, load.devices, BLOCK):
            data, ends = bytearray(), []
            for device in range(begin, min(begin + BLOCK, load.devices)):
                place = turn + device
                payload = b'{"time":"%b",%b}' % (GAP, (bodies[device] % (place % 9_000)).encode())
                data += publish_packet(topics[device], place % ids + 1, payload)
                ends.append(len(data))
            blocks.append(Block(bytes(data), ends, begin == 0))
    return blocks


class Clock:
    """The times that the readings name."""

    def __init__(self, live: bool) -> None:
        self._live = live
        self._turn = datetime.now(UTC) - timedelta(minutes=30)
        self._stamp = b""

    def stamp(self, opens: bool) -> bytes:
        """The time of the next block."""
        if self._live:
            return _rfc_3339(datetime.now(UTC))
        if opens or not self._stamp:
            self._turn += timedelta(milliseconds=1)
            self._stamp = _rfc_3339(self._turn)
        return self._stamp


def _rfc_3339(at: datetime) -> bytes:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z").encode()


class Publisher(Acknowledgements):
    """Counts the acknowledgements, and reads how much may be published."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = 0

    def read_allowance(self) -> None:
        """Takes the last of the lines that have come."""
        lines = os.read(0, 65_536).split()
        if not lines:
            os._exit(1)
        self.allowed = int(lines[-1])
        self.changed.set()


async def publish(load: Load) -> dict[str, float]:
    """Publishes a load; what it says when the last message is acknowledged."""
    blocks, clock = ring(load), Clock(load.live)
    loop = asyncio.get_running_loop()
    transport, publisher = await loop.create_connection(Publisher, "127.0.0.1", load.port)
    transport.write(CONNECT)
    await publisher.connected.wait()
    loop.add_reader(0, publisher.read_allowance)
    print("ready", flush=True)
    while not publisher.allowed:
        publisher.changed.clear()
        await publisher.changed.wait()
    began, began_at, sent, place = time.monotonic(), time.time(), 0, 0
    while publisher.acknowledged < load.messages:
        due = int((time.monotonic() - began) * load.rate) + BLOCK if load.rate else load.messages
        until = min(due, publisher.allowed, publisher.acknowledged + IN_FLIGHT)
        parts: list[bytes] = []
        while sent < load.messages and len(parts) < BLOCKS_AT_ONCE:
            block = blocks[place % len(blocks)]
            count = min(len(block.ends), load.messages - sent)
            if sent + count > until:
                break
            parts.append(block.first(count, clock.stamp(block.opens)))
            sent, place = sent + count, place + 1
        if parts:
            transport.write(b"".join(parts))
            await asyncio.sleep(0)
            continue
        publisher.changed.clear()
        try:
            await asyncio.wait_for(publisher.changed.wait(), TICK_S)
        except TimeoutError:
            assert not transport.is_closing(), f"the broker closed the connection after {publisher.acknowledged}"
    done = {"messages": load.messages, "began_at": began_at, "elapsed_s": time.monotonic() - began}
    transport.write(DISCONNECT)
    transport.close()
    return done


if __name__ == "__main__":
    print(json.dumps(asyncio.run(publish(Load(**json.loads(sys.argv[1]))))), flush=True)
