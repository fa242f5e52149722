"""Bytes of the wire to packets: whatever way the network cuts them, without copying a large packet twice."""

from __future__ import annotations

from typing import Final

from mqtt5 import Packet, PublishPacket, read

from telemetry.mqtt.oversize import LONGEST, LongPublish, Oversize

_PUBLISH: Final = frozenset(0x30 | flags for flags in range(16) if flags & 0b0110 != 0b0110)
_FIRST_BYTES: Final = _PUBLISH | {0x10, 0x20, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0}
"""Type and flags with which an MQTT 5 packet can begin."""

_LONGEST_HEADER: Final = 5
_LONGEST_OTHER: Final = 1024 * 1024
"""Bytes of a packet that is no PUBLISH. All of them have a few, and texts that nobody reads."""
_ROOM: Final = 128 * 1024
"""Bytes of a PUBLISH beside its payload, a topic of 64 KiB and some properties, before it is taken for a long one."""
_LEAN: Final = 128
"""Bytes of a packet beside its payload that may be properties and are not worth a look: a dozen short ones."""

_PIECE: Final = 64 * 1024
"""Small reads are gathered into pieces of about this size, for each object takes memory beside its bytes."""


class PacketReader:
    """Cuts a stream into packets.

    Args:
        keep: bytes of a payload that are held; of longer ones the beginning (`oversize.py`).

    Attributes:
        fault: what is wrong with the stream; once set, nothing is read any more.
    """

    def __init__(self, keep: int = LONGEST) -> None:
        self.fault: str | None = None
        self._chunks: list[bytes | bytearray] = []
        self._have = 0
        self._need = 0
        self._keep_bytes = keep
        self._long: LongPublish | None = None

    def feed(self, data: bytes) -> list[Packet | Oversize]:
        """The packets that `data` completes, in order; those before a fault included."""
        if self.fault is not None:
            return []
        if self._long is not None:
            return self._pass(self._long, data)
        if self._chunks:
            self._add(data)
            if self._have < self._need:
                return []
            data = b"".join(self._chunks)
            self._chunks.clear()
        return self._cut(data)

    def _cut(self, data: bytes) -> list[Packet | Oversize]:
        packets: list[Packet | Oversize] = []
        view, at, end = memoryview(data), 0, len(data)
        try:
            while at < end:
                packet, size = read(view[at:])
                if size > _LEAN and type(packet) is PublishPacket and size - len(packet.payload) > _LEAN:
                    packet = _without_properties(packet)
                packets.append(packet)
                at += size
        except IndexError:
            self._keep(data[at:])
        except ValueError as error:
            self.fault = str(error) if data[at] in _FIRST_BYTES else _no_beginning(data[at])
        except BaseException as error:
            # The codec panics on text that is not UTF-8, and a panic is no Exception.
            if type(error).__name__ != "PanicException":
                raise
            self.fault = "text that is not UTF-8"
        return packets

    def _add(self, data: bytes) -> None:
        last = self._chunks[-1]
        if isinstance(last, bytearray) and len(last) + len(data) <= _PIECE:
            last += data
        else:
            self._chunks.append(data if len(data) >= _PIECE // 4 else bytearray(data))
        self._have += len(data)

    def _keep(self, rest: bytes) -> None:
        """Remembers the beginning of a packet, and how long the packet is going to be."""
        size = packet_size(rest)
        if rest[0] not in _FIRST_BYTES:
            self.fault = _no_beginning(rest[0])
        elif size is not None and size <= len(rest):
            self.fault = "a field reaches beyond the end of its packet"
        elif size is not None and size > _LONGEST_OTHER and rest[0] not in _PUBLISH:
            self.fault = f"a packet of {size:,} bytes that is no PUBLISH"
        elif size is not None and size > self._keep_bytes + _ROOM:
            self._long = LongPublish(rest[0], size, self._keep_bytes)
            self._pass(self._long, rest)
        else:
            self._chunks.append(rest)
            self._have = len(rest)
            self._need = size or self._have + 1

    def _pass(self, long: LongPublish, data: bytes) -> list[Packet | Oversize]:
        """Takes what comes of a long packet; returns it when it is complete, and what follows it."""
        try:
            rest = long.take(data)
            if not long.complete:
                return []
            message = long.message()
        except ValueError as error:
            self.fault = str(error)
            return []
        self._long = None
        return [message, *self._cut(rest)]


def packet_size(data: bytes) -> int | None:
    """Length of the packet that begins here, its header included; None while the header is incomplete."""
    length = 0
    for index, byte in enumerate(data[1:_LONGEST_HEADER]):
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return length + index + 2
    return None


def _without_properties(packet: PublishPacket) -> PublishPacket:
    """The packet as far as it is looked at: nobody bounds or counts its properties, and they take far more memory than
    bytes on the wire."""
    return PublishPacket(
        packet.topic,
        packet.payload,
        qos=packet.qos,
        retain=packet.retain,
        packet_id=packet.packet_id,
        duplicate=packet.duplicate,
        topic_alias=packet.topic_alias,
    )


def _no_beginning(byte: int) -> str:
    return f"no packet begins with the byte 0x{byte:02X}"
