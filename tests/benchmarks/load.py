"""A publisher that is never the bottleneck: MQTT 3.1.1 packets put together by hand, QoS 1, many in flight.

    python -m tests.benchmarks.load PORT ROOT MESSAGES RATE DEVICES DOMAINS

It prints one JSON object when the broker has acknowledged every message. A rate of 0 is as fast as the broker takes
them.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

CONNECT: Final = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04load"
IN_FLIGHT: Final = 10_000
TICK_S: Final = 0.01

BODIES: Final = {
    "lighting": '"power_w":%d.25,"voltage_v":231.5,"dim_level_pct":80,"energy_kwh":1203.4,"lamp_on":true',
    "energy": '"active_power_w":%d.5,"voltage_l1_v":231.5,"voltage_l2_v":230.5,"energy_import_kwh":5120.75',
    "parking": '"occupied_spots":%d,"total_spots":10000,"arrivals":1204,"departures":1180,"battery_pct":88',
    "waste": '"weight_kg":%d,"fill_level_pct":41.5,"temperature_c":12.5,"tilted":false,"battery_pct":91',
}


def packets(root: str, messages: int, devices: int, domains: list[str]) -> Iterator[bytes]:
    """PUBLISH packets of distinct readings: devices take turns, each a millisecond after its last reading."""
    start = datetime.now(UTC) - timedelta(minutes=30)
    topics = [f"{root}/{domains[n % len(domains)]}/load-{n}".encode() for n in range(devices)]
    bodies = [BODIES[domains[n % len(domains)]] for n in range(devices)]
    stamp = ""
    for number in range(messages):
        turn, device = divmod(number, devices)
        if device == 0 or not stamp:
            stamp = (start + timedelta(milliseconds=turn)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        payload = f'{{"time":"{stamp}",{bodies[device] % (number % 9_000)}}}'.encode()
        topic = topics[device]
        body = struct.pack("!H", len(topic)) + topic + struct.pack("!H", number % 65_535 + 1) + payload
        yield b"\x32" + _length(len(body)) + body


def _length(size: int) -> bytes:
    if size < 128:
        return bytes((size,))
    return bytes((size & 0x7F | 0x80, size >> 7))


class Publisher(asyncio.Protocol):
    """Writes packets and counts the acknowledgements."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.changed = asyncio.Event()
        self.acknowledged = 0
        self._rest = 0

    def data_received(self, data: bytes) -> None:
        if not self.connected.is_set():
            assert data[:4] == b"\x20\x02\x00\x00", data
            self.connected.set()
            data = data[4:]
        whole, self._rest = divmod(self._rest + len(data), 4)
        self.acknowledged += whole
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.changed.set()


async def publish(
    port: int, root: str, messages: int, rate: float, devices: int, domains: list[str]
) -> dict[str, float]:
    """Publishes so many messages at a rate; what it says when the last one is acknowledged."""
    ready = list(packets(root, messages, devices, domains))
    transport, publisher = await asyncio.get_running_loop().create_connection(Publisher, "127.0.0.1", port)
    transport.write(CONNECT)
    await publisher.connected.wait()
    began, sent = time.monotonic(), 0
    while publisher.acknowledged < messages:
        due = min(messages, int((time.monotonic() - began) * rate) + 1 if rate else messages)
        until = min(due, publisher.acknowledged + IN_FLIGHT, sent + 2_000)
        if until > sent:
            transport.write(b"".join(ready[sent:until]))
            sent = until
            await asyncio.sleep(0)
            continue
        publisher.changed.clear()
        try:
            await asyncio.wait_for(publisher.changed.wait(), TICK_S)
        except TimeoutError:
            assert not transport.is_closing(), f"the broker closed the connection after {publisher.acknowledged}"
    elapsed = time.monotonic() - began
    transport.write(b"\xe0\x00")
    transport.close()
    return {"messages": messages, "elapsed_s": elapsed, "ended_at": time.time()}


if __name__ == "__main__":
    port, root, messages, rate, devices, domains = sys.argv[1:]
    done = asyncio.run(publish(int(port), root, int(messages), float(rate), int(devices), domains.split(",")))
    sys.stdout.write(json.dumps(done) + "\n")
