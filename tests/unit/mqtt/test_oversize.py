"""A PUBLISH longer than we can use: its beginning is delivered, its rest passes by, and nothing behind it suffers."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mqtt5 import ConnAckPacket, PublishPacket, SubAckPacket, SubAckReasonCode

from telemetry.mqtt import reader as reader_module
from telemetry.mqtt.oversize import Message, Oversize
from telemetry.mqtt.reader import PacketReader
from telemetry.mqtt.session import Session
from tests.unit.mqtt.far_side import FILTERS, Q0, Q1, Q2, publish, settings

KEEP = 10
MIB = 1024 * 1024


def size(message: Message) -> int:
    """Bytes of its payload as it was sent."""
    return message.size if isinstance(message, Oversize) else len(message.payload)


@pytest.fixture
def _little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A packet is a long one with the first byte beyond its payload."""
    monkeypatch.setattr(reader_module, "_ROOM", 0)


@pytest.mark.usefixtures("_little_room")
@given(
    st.text(min_size=1, max_size=30).filter(lambda topic: not set(topic) & set("\0+#")),
    st.binary(max_size=200),
    st.sampled_from([Q0, Q1, Q2]),
    st.booleans(),
    st.integers(0, 30),
    st.lists(st.integers(1, 400), max_size=20),
)
def test_long_publish_says_what_it_said_whole_wherever_it_is_cut(
    topic: str, payload: bytes, qos: object, retained: bool, properties: int, cuts: list[int]
) -> None:
    packet_id = None if qos is Q0 else 77
    more = {"user_properties": [("k", "v")] * properties, "retain": retained, "duplicate": qos is not Q0}
    data = publish(packet_id, payload, qos=qos, topic=topic, **more) + publish(1, b"next")  # type: ignore[arg-type]
    bounds = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    reader = PacketReader(KEEP)
    found = [packet for a, b in pairwise(bounds) for packet in reader.feed(data[a:b])]
    assert reader.fault is None
    message, following = found
    assert isinstance(message, PublishPacket | Oversize)
    assert (message.topic, message.payload[:KEEP], size(message)) == (topic, payload[:KEEP], len(payload))
    packet = message.packet if isinstance(message, Oversize) else message
    assert (packet.packet_id, packet.qos, packet.retain, packet.duplicate) == (packet_id, qos, retained, qos is not Q0)
    assert isinstance(following, PublishPacket)
    assert following.payload == b"next"


def subscribed(keep: int) -> Session:
    """A session that wants no more of a payload than that."""
    session = Session(settings(), FILTERS, keep=keep)
    session.connect(0.0)
    code = SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE
    session.receive(ConnAckPacket().write() + SubAckPacket(1, [code]).write(), 0.0)
    session.output(0.0)
    return session


def test_packet_of_100_mb_takes_no_more_memory_than_is_kept_of_it() -> None:
    """It is numbered and acknowledged like any other, and so is what comes behind it."""
    session = subscribed(MIB)
    begin = publish(5, b"x" * 100)[:-100]
    payload = 100 * MIB
    length = len(begin) - 2 + payload
    header = bytes([begin[0], *(length >> shift & 0x7F | (0x80 if shift < 21 else 0) for shift in (0, 7, 14, 21))])
    piece = b"x" * 65_536
    messages: list[Message] = []
    tracemalloc.start()
    try:
        messages += session.receive(header + begin[2:], 0.0)[1]
        for _ in range(payload // len(piece)):
            messages += session.receive(piece, 0.0)[1]
        messages += session.receive(publish(6, b"next"), 0.0)[1]
        assert tracemalloc.get_traced_memory()[1] < 3 * MIB
    finally:
        tracemalloc.stop()
    long, following = messages
    assert isinstance(long, Oversize)
    assert (long.topic, long.payload, long.size) == ("city/v1/waste/a", b"x" * MIB, payload)
    assert following.payload == b"next"
    assert session.stats.in_flight == 2
    assert session.output(0.0) == b""
    session.settle(0, 1)
    assert session.output(0.0) == b"\x40\x02\x00\x05"


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        pytest.param(b"\x30\x90\x4e\xff\xff" + b"a" * 9_998, "beyond the end", id="topic longer than its packet"),
        pytest.param(b"\x30\x90\x4e\x00\x01a\xff\xff\x7f" + b"a" * 9_994, "beyond the end", id="properties"),
        pytest.param(b"\x30\x90\x4e\x00\x01a\xff\xff\xff\xff" + b"a" * 9_993, "four bytes", id="property length"),
        pytest.param(b"\x30\x90\x4e\x00\x01\xff\x00" + b"a" * 9_996, "UTF-8", id="no UTF-8 in the topic"),
        pytest.param(b"\x30\x90\x4e\x00\x00\x00" + b"a" * 9_997, "without a topic", id="alias only"),
        pytest.param(b"\xe0\x81\x80\x40" + b"a" * 9_997, "that is no PUBLISH", id="a DISCONNECT beyond 1 MiB"),
    ],
)
@pytest.mark.usefixtures("_little_room")
def test_wrong_long_packet_is_named_like_a_short_one(data: bytes, fault: str) -> None:
    for step in (1, 1_000):
        reader = PacketReader(KEEP)
        assert [packet for at in range(0, len(data), step) for packet in reader.feed(data[at : at + step])] == []
        assert fault in (reader.fault or "")
        assert reader.feed(publish(1)) == []


def test_long_publish_before_connack_is_a_violation() -> None:
    session = Session(settings(), FILTERS, keep=KEEP)
    session.connect(0.0)
    data = publish(5, b"x" * 300_000)
    for at in range(0, len(data), 65_536):
        session.receive(data[at : at + 65_536], 0.0)
    assert "PUBLISH while we were waiting for CONNACK" in str(session.ended)
