"""Every kind of packet in every state, whole, cut short, too long and mutated: at most one clean end, then anew."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mqtt5 import (
    AuthPacket,
    ConnAckPacket,
    ConnAckReasonCode,
    ConnectPacket,
    DisconnectPacket,
    PingReqPacket,
    PingRespPacket,
    PubAckPacket,
    PubCompPacket,
    PubRecPacket,
    SubAckPacket,
    SubAckReasonCode,
    SubscribePacket,
    TopicFilter,
    UnsubAckPacket,
    UnsubAckReasonCode,
    UnsubscribePacket,
)

from telemetry.errors import TelemetryError
from telemetry.mqtt.faults import ProtocolError
from telemetry.mqtt.reader import packet_size
from telemetry.mqtt.session import State
from tests.unit.mqtt.far_side import Q0, Q1, Q2, FarSide, publish, pubrel

# The codec panics on text that is not UTF-8, and what it tells Python on the way is nobody's to catch.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CONNACK: Final = ConnAckPacket().write()
SUBACK: Final = SubAckPacket(1, [SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]).write()
RICH: Final = publish(
    7,
    b'{"power_w": 1.0}',
    qos=Q2,
    content_type="application/json",
    response_topic="answers/here",
    correlation_data=b"12345",
    message_expiry_interval=60,
    subscription_ids=[3],
    user_properties=[("key", "value"), ("key", "again")],
)

PACKETS: Final = {
    "CONNECT": ConnectPacket("c", username="u", password=b"p").write(),
    "CONNACK": ConnAckPacket(session_present=True, server_keep_alive=9, reason_str="why", topic_alias_max=4).write(),
    "CONNACK refused": ConnAckPacket(reason_code=ConnAckReasonCode.SERVER_BUSY).write(),
    "PUBLISH 0": publish(qos=Q0),
    "PUBLISH 1": publish(1, qos=Q1),
    "PUBLISH 2": RICH,
    "PUBACK": PubAckPacket(1, reason_str="why").write(),
    "PUBREC": PubRecPacket(1).write(),
    "PUBREL": pubrel(1),
    "PUBCOMP": PubCompPacket(1).write(),
    "SUBSCRIBE": SubscribePacket(1, [TopicFilter("a/#")]).write(),
    "SUBACK": SUBACK,
    "UNSUBSCRIBE": UnsubscribePacket(1, ["a"]).write(),
    "UNSUBACK": UnsubAckPacket(1, [UnsubAckReasonCode.SUCCESS]).write(),
    "PINGREQ": PingReqPacket().write(),
    "PINGRESP": PingRespPacket().write(),
    "DISCONNECT": DisconnectPacket(reason_str="bye").write(),
    "AUTH": AuthPacket(authentication_method="m").write(),
}
TOLD: Final = {0x81, 0x82, 0x90, 0x94}
"""What a DISCONNECT of ours may say of the broker's errors."""


def idle(far: FarSide) -> None:
    far.session.lost(far.epoch)


def connecting(far: FarSide) -> None:
    far.open()


def subscribing(far: FarSide) -> None:
    far.open()
    far.receive(CONNACK)


def ready(far: FarSide) -> None:
    subscribing(far)
    far.receive(SUBACK)


def busy(far: FarSide) -> None:
    ready(far)
    far.settle(far.numbers(publish(1, qos=Q2), publish(2)))
    far.receive(publish(3), publish(4, qos=Q2))


def ended(far: FarSide) -> None:
    ready(far)
    far.receive(b"\x00\x00")


STATES: Final[list[Callable[[FarSide], None]]] = [idle, connecting, subscribing, ready, busy, ended]
ALLOWED: Final = {
    "connecting": {"CONNACK"},
    "subscribing": {"PUBLISH 0", "PUBLISH 1", "PUBLISH 2", "PUBREL", "SUBACK", "PINGRESP"},
    "ready": {"PUBLISH 0", "PUBLISH 1", "PUBLISH 2", "PUBREL", "PINGRESP"},
    "busy": {"PUBLISH 0", "PUBLISH 1", "PUBLISH 2", "PUBREL", "PINGRESP"},
}


def in_state(state: Callable[[FarSide], None]) -> FarSide:
    """A session in that state, with nothing left to say."""
    far = FarSide()
    state(far)
    far.said()
    return far


def check(far: FarSide) -> None:
    """One clean end at most, and after it a new connection as if nothing had been."""
    said = far.heard()
    assert [name for name, _ in said[:-1] if name == "DISCONNECT"] == []
    if far.session.state is State.ENDED:
        assert isinstance(far.session.ended, TelemetryError)
        if isinstance(far.session.ended, ProtocolError) and said and said[-1][0] == "DISCONNECT":
            assert said[-1][1] in TOLD
        assert far.receive(publish(1), pubrel(1)) == []
        assert far.said() == []
        assert far.session.unsettled == 0
    else:
        assert far.session.ended is None
    far.reconnect()
    far.settle(far.numbers(publish(9)))
    assert far.heard() == [("PUBACK", 9)]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("name", PACKETS)
def test_packet_in_a_state_is_taken_or_ends_the_connection(state: Callable[[FarSide], None], name: str) -> None:
    far = in_state(state)
    before = far.session.state
    taken = far.receive(PACKETS[name])
    if state in (idle, ended):
        assert (taken, far.session.state) == ([], before)
    else:
        assert (far.session.state is not State.ENDED) is (name in ALLOWED[state.__name__])
    check(far)


@pytest.mark.parametrize("state", STATES[1:5], ids=lambda state: state.__name__)
@pytest.mark.parametrize("name", PACKETS)
def test_packet_that_is_cut_short_is_waited_for(state: Callable[[FarSide], None], name: str) -> None:
    """And a packet whose length says that it ends earlier is no packet, or a shorter one."""
    data = PACKETS[name]
    for cut in range(1, len(data)):
        far = in_state(state)
        assert far.receive(data[:cut]) == []
        assert far.session.state is not State.ENDED
        check(far)
        far = in_state(state)
        far.receive(data[:1] + bytes([cut - 1]) + data[2 : cut + 1])
        if far.session.state is State.READY:
            assert len(far.receive(publish(77))) == 1, "the reader still waits for the end of a packet that is whole"
        check(far)


@pytest.mark.parametrize("state", STATES[1:5], ids=lambda state: state.__name__)
@pytest.mark.parametrize("name", PACKETS)
def test_packet_with_a_length_bomb_costs_nothing(state: Callable[[FarSide], None], name: str) -> None:
    """256 MB are announced; what is held is what came."""
    far = in_state(state)
    data = PACKETS[name]
    tracemalloc.start()
    try:
        far.receive(data[:1] + b"\xff\xff\xff\x7f" + data[2:])
        far.receive(b"\0" * 10_000)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
    check(far)


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """Good packets with bytes changed, put in, left out or copied from elsewhere, or with another length."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(sorted(PACKETS.values())), min_size=1, max_size=6))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["change", "insert", "delete", "splice", "length"])):
            case "change":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "delete":
                del data[at : at + draw(st.integers(1, 8))]
            case "splice":
                other = draw(st.sampled_from(sorted(PACKETS.values())))
                data[at:at] = other[draw(st.integers(0, len(other))) :]
            case "length":
                data[1:2] = draw(st.sampled_from([b"\x00", b"\x7f", b"\x80\x01", b"\xff\xff\x7f", b"\xff\xff\xff\xff"]))
    return bytes(data)


@given(st.sampled_from(STATES), mutants(), st.lists(st.integers(0, 300), max_size=6))
@settings(deadline=None, max_examples=500)
def test_mutant_packets_end_in_at_most_one_clean_error(
    state: Callable[[FarSide], None], data: bytes, cuts: list[int]
) -> None:
    whole, pieces = in_state(state), in_state(state)
    taken = [(message.packet_id, message.payload) for message in whole.receive(data)]
    at, found = 0, list[tuple[int | None, bytes]]()
    for cut in [*sorted(cuts), len(data)]:
        found += [(message.packet_id, message.payload) for message in pieces.receive(data[at:cut])]
        at = max(at, cut)
    assert found == taken
    assert str(pieces.session.ended) == str(whole.session.ended)
    check(whole)
    check(pieces)


@given(st.binary(min_size=1, max_size=5))
def test_packet_size_is_never_less_than_its_header(data: bytes) -> None:
    size = packet_size(data)
    assert size is None or 2 <= size <= 268_435_455 + 5
