"""A batch as it was received, and its bytes in the spool.

Per arrival: µs of receipt (8 bytes) and number of messages (4). Per message: length of the topic (2) and of the payload
(4), then both. Numbers are unsigned, in network order; topics are UTF-8.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from telemetry.ingest.intake import Arrival, size_of

_ARRIVAL: Final = struct.Struct("!QI")
_MESSAGE: Final = struct.Struct("!HI")


class Parcel(NamedTuple):
    """The messages of a batch, and the id under which it is committed once."""

    id: UUID
    arrivals: Sequence[Arrival]

    @property
    def first(self) -> int:
        """Number of the first message."""
        return self.arrivals[0].first

    @property
    def end(self) -> int:
        """Number behind the last message."""
        return self.arrivals[-1].first + len(self.arrivals[-1].messages)


class Kept(NamedTuple):
    """A message out of the spool."""

    topic: str
    payload: bytes


def pack(arrivals: Sequence[Arrival]) -> bytes:
    """The bytes of some arrivals."""
    parts: list[bytes] = []
    for arrival in arrivals:
        parts.append(_ARRIVAL.pack(arrival.received_us, len(arrival.messages)))
        for message in arrival.messages:
            topic = message.topic.encode()
            parts += (_MESSAGE.pack(len(topic), len(message.payload)), topic, message.payload)
    return b"".join(parts)


def unpack(data: bytes) -> list[Arrival]:
    """What `pack` made bytes of; the messages are numbered from 0."""
    arrivals: list[Arrival] = []
    first = at = 0
    while at < len(data):
        received_us, count = _ARRIVAL.unpack_from(data, at)
        at += _ARRIVAL.size
        messages: list[Kept] = []
        for _ in range(count):
            topic, payload = _MESSAGE.unpack_from(data, at)
            at += _MESSAGE.size + topic + payload
            messages.append(Kept(data[at - payload - topic : at - payload].decode(), data[at - payload : at]))
        arrivals.append(Arrival(first, received_us, messages, size_of(messages)))
        first += count
    return arrivals
