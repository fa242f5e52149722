"""A PUBLISH that is too long to be held: what is kept of it while the rest passes by.

MQTT 5 lets a client name a Maximum Packet Size, and a broker then drops what is larger as if it had been delivered: a
loss that nobody sees. So we name none. A PUBLISH that is longer than we can use is received to its end, but only its
topic and the first bytes of its payload are held. It gets its number and is acknowledged like any other. Properties of
such a packet, which may be as long as the packet, are passed over.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from mqtt5 import PublishPacket, QoS

LONGEST: Final = 2**28
"""Bytes that no MQTT packet can have."""

_QOS: Final = (QoS.AT_MOST_ONCE, QoS.AT_LEAST_ONCE, QoS.EXACTLY_ONCE)
_LONGEST_HEADER: Final = 5
_LONGEST_INTEGER: Final = 4


class Oversize(NamedTuple):
    """A message of which the beginning is kept.

    Attributes:
        packet: its PUBLISH with the payload that is kept, without properties.
        size: bytes of the payload as it was sent.
    """

    packet: PublishPacket
    size: int

    @property
    def topic(self) -> str:
        """As published."""
        return self.packet.topic

    @property
    def payload(self) -> bytes:
        """The first bytes of it."""
        return self.packet.payload


Message: TypeAlias = PublishPacket | Oversize


class LongPublish:
    """Takes the bytes of one PUBLISH until it is complete.

    Args:
        flags: its first byte.
        size: bytes of the packet, its header included.
        keep: bytes of the payload that are held at the most.
    """

    def __init__(self, flags: int, size: int, keep: int) -> None:
        self._flags = flags
        self._size = size
        self._keep = keep
        self._taken = 0
        self._head = bytearray()
        self._begin: int | None = None
        self._payload = bytearray()

    @property
    def complete(self) -> bool:
        """Whether its end has come."""
        return self._taken == self._size

    def take(self, data: bytes) -> bytes:
        """Takes what belongs to it; returns what follows it.

        Raises:
            ValueError: a field reaches beyond its end.
        """
        at, piece = self._taken, data[: self._size - self._taken]
        self._taken += len(piece)
        rest = data[len(piece) :]
        if self._begin is None:
            self._head += piece
            self._begin = self._payload_begin()
            if self._begin is None and not self.complete:
                return rest
            if self._begin is None or self._begin > self._size:
                raise ValueError("a field reaches beyond the end of its packet")
            at, piece = 0, bytes(self._head)
        begin = max(0, self._begin - at)
        self._payload += piece[begin : begin + self._keep - len(self._payload)]
        return rest

    def message(self) -> Message:
        """The message, once it is complete.

        Raises:
            ValueError: its topic is none.
        """
        assert self._begin is not None
        start, end = self._topic()
        try:
            topic = self._head[start:end].decode()
        except UnicodeDecodeError:
            raise ValueError("text that is not UTF-8") from None
        if not topic:
            raise ValueError("a PUBLISH without a topic, and we allow no alias")
        qos = _QOS[self._flags >> 1 & 0b11]
        packet = PublishPacket(
            topic,
            bytes(self._payload),
            qos=qos,
            retain=bool(self._flags & 0b0001),
            packet_id=int.from_bytes(self._head[end : end + 2]) if self._flags & 0b0110 else None,
            duplicate=bool(self._flags & 0b1000),
        )
        size = self._size - self._begin
        return packet if size == len(self._payload) else Oversize(packet, size)

    def _topic(self) -> tuple[int, int]:
        """Where it begins and ends, as far as that has come."""
        start = 1
        while self._head[start] & 0x80:
            start += 1
        start += 3
        return start, start + int.from_bytes(self._head[start - 2 : start])

    def _payload_begin(self) -> int | None:
        """Where the payload begins; None while what is before it is not understood."""
        if len(self._head) < _LONGEST_HEADER + 2:
            return None
        _, at = self._topic()
        at += 2 if self._flags & 0b0110 else 0
        length = 0
        for index, byte in enumerate(self._head[at : at + _LONGEST_INTEGER]):
            length |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return at + index + 1 + length
        if len(self._head) >= at + _LONGEST_INTEGER:
            raise ValueError("a property length of more than four bytes")
        return None
