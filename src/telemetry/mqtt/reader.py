"""Bytes of the wire to packets: whatever way the network cuts them, without copying a large packet twice."""

from __future__ import annotations

from typing import Final

from mqtt5 import Packet, read

_PUBLISH: Final = frozenset(0x30 | flags for flags in range(16) if flags & 0b0110 != 0b0110)
_FIRST_BYTES: Final = _PUBLISH | {0x10, 0x20, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0}
"""Type and flags with which an MQTT 5 packet can begin."""

_LONGEST_HEADER: Final = 5

_PIECE: Final = 64 * 1024
"""Small reads are gathered into pieces of about this size, for each object takes memory beside its bytes."""


class PacketReader:
    """Cuts a stream into packets.

    Attributes:
        fault: what is wrong with the stream; once set, nothing is read any more.
    """

    def __init__(self) -> None:
        self.fault: str | None = None
        self._chunks: list[bytes | bytearray] = []
        self._have = 0
        self._need = 0

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that `data` completes, in order; those before a fault included."""
        if self.fault is not None:
            return []
        if self._chunks:
            self._add(data)
            if self._have < self._need:
                return []
            data = b"".join(self._chunks)
            self._chunks.clear()
        return self._cut(data)

    def _cut(self, data: bytes) -> list[Packet]:
        packets: list[Packet] = []
        view, at, end = memoryview(data), 0, len(data)
        try:
            while at < end:
                packet, size = read(view[at:])
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
        else:
            self._chunks.append(rest)
            self._have = len(rest)
            self._need = size or self._have + 1


def packet_size(data: bytes) -> int | None:
    """Length of the packet that begins here, its header included; None while the header is incomplete."""
    length = 0
    for index, byte in enumerate(data[1:_LONGEST_HEADER]):
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return length + index + 2
    return None


def _no_beginning(byte: int) -> str:
    return f"no packet begins with the byte 0x{byte:02X}"
