"""MQTT 3.1.1 by hand, which costs next to nothing: packets of QoS 1, and who counts their acknowledgements."""

from __future__ import annotations

import asyncio
import struct
from typing import Final

CONNECT: Final = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04load"
DISCONNECT: Final = b"\xe0\x00"
IN_FLIGHT: Final = 10_000
PACKET_IDS: Final = 65_535


def publish_packet(topic: bytes, packet_id: int, payload: bytes) -> bytes:
    """A PUBLISH of QoS 1."""
    body = struct.pack("!H", len(topic)) + topic + struct.pack("!H", packet_id) + payload
    return b"\x32" + _length(len(body)) + body


def _length(size: int) -> bytes:
    """A variable byte integer."""
    encoded = bytearray()
    while size >= 128:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*encoded, size])


class Acknowledgements(asyncio.Protocol):
    """Counts them.

    Attributes:
        connected: set once the broker has accepted us.
        changed: set when there are more.
    """

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.changed = asyncio.Event()
        self.acknowledged = 0
        self._rest = 0

    def data_received(self, data: bytes) -> None:
        """Takes one read."""
        if not self.connected.is_set():
            assert data[:4] == b"\x20\x02\x00\x00", data
            self.connected.set()
            data = data[4:]
        whole, self._rest = divmod(self._rest + len(data), 4)
        self.acknowledged += whole
        self.changed.set()
