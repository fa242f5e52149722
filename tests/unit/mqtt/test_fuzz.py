"""Whatever a broker sends, cut as the network likes: the same outcome, one clean end, never an exception."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mqtt5 import (
    AuthPacket,
    ConnAckPacket,
    ConnAckReasonCode,
    DisconnectPacket,
    DisconnectReasonCode,
    PingRespPacket,
    PubAckPacket,
    SubAckPacket,
    SubAckReasonCode,
)

from telemetry.errors import TelemetryError
from telemetry.mqtt.session import State
from tests.unit.mqtt.far_side import Q0, Q1, Q2, FarSide, publish, pubrel

# The codec panics on text that is not UTF-8, and what it tells Python on the way is nobody's to catch.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CONNACK = ConnAckPacket().write()
SUBACK = SubAckPacket(1, [SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]).write()

packet_ids = st.integers(1, 30)
messages = st.builds(
    lambda packet_id, payload, qos, duplicate: publish(
        packet_id if qos is not Q0 else None, payload, qos=qos, duplicate=duplicate and qos is not Q0
    ),
    packet_ids,
    st.binary(max_size=300),
    st.sampled_from([Q0, Q1, Q2]),
    st.booleans(),
)
good = st.one_of(messages, packet_ids.map(pubrel), st.just(PingRespPacket().write()))
bad = st.sampled_from(
    [
        CONNACK,
        SUBACK,
        PubAckPacket(1).write(),
        AuthPacket(authentication_method="m").write(),
        DisconnectPacket(reason_code=DisconnectReasonCode.SESSION_TAKEN_OVER).write(),
        ConnAckPacket(reason_code=ConnAckReasonCode.SERVER_BUSY).write(),
        publish(1, topic_alias=5),
        publish(0),
        b"\x00\x00",
        b"\xd0\x80\x00",
        b"\x30\x04\x00\x01\xff\x00",
    ]
)
streams = st.lists(st.one_of(good, good, good, good, bad), max_size=40).map(b"".join)


def outcome(stream: bytes, cuts: list[int], *, connected: bool) -> tuple[Any, ...]:
    """What becomes of a stream that arrives in these pieces."""
    far = FarSide()
    far.open()
    if connected:
        far.receive(CONNACK, SUBACK)
    bounds = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    taken = [message for a, b in pairwise(bounds) for message in far.receive(stream[a:b])]
    stats = far.session.stats
    return (
        [(message.topic, message.payload, message.packet_id) for message in taken],
        far.heard(),
        far.session.state,
        str(far.session.ended),
        (stats.messages_received, stats.qos0_dropped, stats.window_overruns, stats.protocol_errors, stats.in_flight),
    )


@given(streams, st.lists(st.integers(0, 10_000), max_size=20), st.booleans())
@settings(deadline=None)
def test_fragments_give_the_same_as_the_whole(stream: bytes, cuts: list[int], connected: bool) -> None:
    if not connected:
        stream = CONNACK + SUBACK + stream
    assert outcome(stream, cuts, connected=connected) == outcome(stream, [], connected=connected)


@given(st.lists(st.one_of(st.binary(max_size=60), good, bad), max_size=20), st.booleans())
@settings(deadline=None, max_examples=300)
def test_any_bytes_end_in_at_most_one_clean_error(pieces: list[bytes], connected: bool) -> None:
    far = FarSide()
    far.open()
    if connected:
        far.receive(CONNACK, SUBACK)
    for piece in pieces:
        far.receive(piece)
    check_end(far)


@given(streams, st.data())
@settings(deadline=None, max_examples=300)
def test_flipped_bytes_end_in_at_most_one_clean_error(stream: bytes, data: st.DataObject) -> None:
    """Mutants of good traffic come much further than noise does."""
    mutant = bytearray(CONNACK + SUBACK + stream)
    for at in data.draw(st.lists(st.integers(0, len(mutant) - 1), min_size=1, max_size=4)):
        mutant[at] = data.draw(st.integers(0, 255))
    far = FarSide()
    far.open()
    far.receive(bytes(mutant))
    check_end(far)


def check_end(far: FarSide) -> None:
    """Going on or ended; and if ended, with a reason, then DISCONNECT last if at all, and deaf from then on."""
    said = [name for name, _ in far.heard()]
    assert said.count("DISCONNECT") <= 1
    assert "DISCONNECT" not in said[:-1]
    if far.session.state is State.ENDED:
        assert isinstance(far.session.ended, TelemetryError)
        assert far.receive(publish(1), publish(qos=Q0)) == []
        assert far.said() == []
    else:
        assert far.session.ended is None


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("receive"), st.lists(messages, max_size=6)),
            st.tuples(st.just("settle"), st.tuples(st.integers(0, 15), st.integers(1, 6))),
            st.tuples(st.just("reconnect"), st.booleans()),
        ),
        max_size=40,
    )
)
@settings(deadline=None)
def test_pubacks_are_a_prefix_of_the_receipt_and_settled(steps: list[tuple[str, Any]]) -> None:
    """Through the whole session: per connection, PUBACKs are for the first QoS 1 messages received, each settled."""
    far = FarSide()
    far.connect()
    far.said()
    received, acked, settled, delivered = list[tuple[int, int]](), list[int](), set[int](), 0
    for step, argument in steps:
        if step == "receive":
            first = far.session.receive(b"", far.now)[0]
            taken = far.receive(*argument)
            received += [(first + i, m.packet_id or 0) for i, m in enumerate(taken) if m.qos is Q1]
            delivered = first + len(taken)
        elif step == "reconnect":
            far.reconnect(session_present=argument)
            received, acked = [], []
        else:
            back, count = argument
            first = max(0, delivered - back)
            end = min(first + count, delivered)
            if first < end:
                far.session.settle(first, end)
                settled |= set(range(first, end))
        acked += [packet_id for name, packet_id in far.heard() if name == "PUBACK"]
        assert acked == [packet_id for _, packet_id in received[: len(acked)]]
        assert all(number in settled for number, _ in received[: len(acked)])
        assert far.session.ended is None
