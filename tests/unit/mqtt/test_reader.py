"""Bytes to packets: cut anywhere, wrong anywhere."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mqtt5 import ConnectPacket, Packet, PingRespPacket, PublishPacket, SubscribePacket, TopicFilter, UnsubscribePacket

from telemetry.mqtt.oversize import Oversize
from telemetry.mqtt.reader import PacketReader, packet_size
from tests.unit.mqtt.far_side import Q0, publish, pubrel

PACKETS = [publish(1, b"x" * 200), PingRespPacket().write(), pubrel(7), publish(2, b""), publish(qos=Q0)]


def written(packets: Sequence[Packet | Oversize]) -> list[bytes]:
    """Their bytes, whole as they must be."""
    return [b"cut" if isinstance(packet, Oversize) else packet.write() for packet in packets]


def test_reader_returns_the_packets_of_a_read_in_order() -> None:
    found = PacketReader().feed(b"".join(PACKETS))
    assert written(found) == PACKETS


@given(st.lists(st.integers(0, sum(map(len, PACKETS)))))
def test_reader_does_not_mind_where_reads_end(cuts: list[int]) -> None:
    data = b"".join(PACKETS)
    bounds = [0, *sorted(cuts), len(data)]
    reader = PacketReader()
    found = [packet for a, b in pairwise(bounds) for packet in reader.feed(data[a:b])]
    assert written(found) == PACKETS
    assert reader.fault is None


@pytest.mark.parametrize("pairs", [20, 5_000])
def test_reader_holds_no_properties_of_messages(pairs: int) -> None:
    """A short property takes 9 bytes on the wire, and some 150 in memory."""
    more: dict[str, Any] = {"user_properties": [("kk", "vv")] * pairs, "correlation_data": b"c" * 1000}
    packets = [
        publish(1, b"{}", **more),
        publish(qos=Q0, payload=b"", retain=True, **more),
        publish(2, topic_alias=1, **more),
    ]
    plain = [publish(1, b"{}"), publish(qos=Q0, payload=b"", retain=True), publish(2, topic_alias=1)]
    assert written(PacketReader().feed(b"".join(packets))) == plain
    reader = PacketReader()
    tracemalloc.start()
    try:
        kept = reader.feed(packets[0] * 100)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(kept) == 100
    assert held < 100 * 2000


@pytest.mark.parametrize("size", [1, 127, 128, 16_383, 16_384, 2_097_152])
def test_packet_size_is_told_by_the_header(size: int) -> None:
    packet = PublishPacket("t", b"x" * size).write()
    assert packet_size(packet[:5]) == len(packet)
    assert packet_size(packet[:1]) is None


def test_reader_does_not_copy_a_large_packet_again_and_again() -> None:
    """Copying what has come with every read would move half a terabyte here, which takes minutes."""
    data = publish(1, b"x" * (64 << 20))
    reader, begun = PacketReader(), time.process_time()
    found = [packet for at in range(0, len(data), 4096) for packet in reader.feed(data[at : at + 4096])]
    assert len(found) == 1
    assert time.process_time() - begun < 10


def test_reader_holds_what_came_and_not_what_is_announced() -> None:
    """A header that announces 256 MB costs nothing, and small reads cost no more than their bytes."""
    reader = PacketReader()
    tracemalloc.start()
    try:
        reader.feed(b"\x30\xff\xff\xff\x7f")
        assert tracemalloc.get_traced_memory()[1] < 100_000
        for at in range(100_000):
            reader.feed(bytes([at & 0xFF]) + b"bc")
        assert tracemalloc.get_traced_memory()[1] < 700_000
    finally:
        tracemalloc.stop()
    assert reader.fault is None


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        pytest.param(b"\x30\x05\x00\x08abc", "remaining length", id="text longer than its packet"),
        pytest.param(b"\x32\x04\x00\x01a\x00", "remaining length", id="no room for the packet id"),
        pytest.param(b"\x30\xff\xff\xff\xff\x01", "variable byte integer", id="length of five bytes"),
        pytest.param(b"\x00\x00", "0x00", id="packet type 0"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n", "0x48", id="a web server"),
        pytest.param(b"\x15\x03\x03\x00\x02\x02\x46", "0x15", id="a TLS alert"),
    ],
)
def test_reader_names_what_is_wrong(data: bytes, fault: str) -> None:
    reader = PacketReader()
    reader.feed(data)
    assert reader.fault is not None
    assert fault in reader.fault


def test_reader_keeps_the_packets_before_a_fault_and_nothing_after_it() -> None:
    reader = PacketReader()
    (packet,) = reader.feed(PACKETS[0] + b"\x00\x00" + PACKETS[0])
    assert written([packet]) == PACKETS[:1]
    assert reader.feed(PACKETS[0]) == []


@pytest.mark.parametrize("first", [0x00, 0x36, 0x3F, 0x41, 0x60, 0x92, 0xD1, 0xE1, 0xFF])
def test_reader_does_not_wait_for_a_packet_that_cannot_be_one(first: int) -> None:
    """A wrong first byte with a length of 256 MB behind it must not make us collect all that."""
    reader = PacketReader()
    reader.feed(bytes([first, 0xFF, 0xFF, 0xFF, 0x7F]))
    assert reader.fault == f"no packet begins with the byte 0x{first:02X}"


@pytest.mark.parametrize(
    "packet",
    [
        *PACKETS,
        ConnectPacket("c").write(),
        SubscribePacket(1, [TopicFilter("a")]).write(),
        UnsubscribePacket(1, ["a"]).write(),
    ],
)
def test_reader_waits_for_every_beginning_that_can_be_one(packet: bytes) -> None:
    reader = PacketReader()
    assert reader.feed(packet[:1]) == []
    assert reader.fault is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x30\x06\x00\x03\xed\xa0\x80\x00", id="surrogate in the topic"),
        pytest.param(b"\x30\x04\x00\x01\xff\x00", id="no UTF-8 in the topic"),
        pytest.param(b"\x30\x0a\x00\x01a\x06\x26\x00\x01\xff\x00\x00", id="no UTF-8 in a property"),
    ],
)
def test_reader_survives_the_panic_of_the_codec(data: bytes) -> None:
    """It panics on text that is not UTF-8, which Python sees as a BaseException."""
    reader = PacketReader()
    (packet,) = reader.feed(PACKETS[0] + data)
    assert written([packet]) == PACKETS[:1]
    assert reader.fault == "text that is not UTF-8"
