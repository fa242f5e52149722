"""Subscriptions that are no longer wanted are ended, and what the broker holds for them still comes."""

from __future__ import annotations

import pytest
from mqtt5 import ConnAckPacket, SubAckPacket, SubAckReasonCode, UnsubAckPacket, UnsubAckReasonCode, UnsubscribePacket

from telemetry.errors import Unavailable
from telemetry.mqtt.session import Session, State
from tests.unit.mqtt.far_side import FILTERS, FarSide, ended, publish, settings


def side(*filters: str, stale: tuple[str, ...]) -> FarSide:
    """A session that wants these subscriptions and may have those, with CONNACK received."""
    far = FarSide()
    far.session = Session(settings(), filters, stale=stale)
    far.open()
    far.said()
    far.receive(ConnAckPacket(session_present=True).write())
    return far


def unsubscribed(far: FarSide) -> list[str]:
    """The filters of the one UNSUBSCRIBE that was sent since last asked."""
    (packet,) = far.said()
    assert isinstance(packet, UnsubscribePacket)
    return packet.patterns


def test_stale_filters_are_ended_only_after_the_wanted_ones_are_granted() -> None:
    far = side(*FILTERS, stale=("old/#", "older/#"))
    assert [type(packet).__name__ for packet in far.said()] == ["SubscribePacket"]
    far.receive(SubAckPacket(1, [SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]).write())
    assert unsubscribed(far) == ["old/#", "older/#"]
    assert far.session.stats.connected
    assert not far.session.stats.arranged
    far.receive(UnsubAckPacket(2, [UnsubAckReasonCode.SUCCESS, UnsubAckReasonCode.NO_SUBSCRIPTION_EXISTED]).write())
    assert far.session.stats.arranged


def test_session_without_filters_takes_what_is_held_and_subscribes_to_nothing() -> None:
    far = side(stale=("old/#",))
    assert far.session.state is State.READY
    assert unsubscribed(far) == ["old/#"]
    numbers = far.numbers(publish(1), publish(3))
    far.receive(UnsubAckPacket(2, [UnsubAckReasonCode.SUCCESS]).write())
    far.settle(numbers)
    assert far.heard() == [("PUBACK", 1), ("PUBACK", 3)]


def test_session_without_stale_filters_is_arranged_when_subscribed() -> None:
    far = FarSide()
    far.connect()
    assert far.session.stats.arranged
    assert "UNSUBSCRIBE" not in [name for name, _ in far.heard()]


def test_refused_unsubscription_is_told_and_never_arranged() -> None:
    far = side(stale=("old/#",))
    far.receive(UnsubAckPacket(2, [UnsubAckReasonCode.NOT_AUTHORIZED]).write())
    assert not far.session.stats.arranged
    assert far.session.state is State.READY


@pytest.mark.parametrize("packet_id", [1, 3])
def test_unsuback_for_another_packet_is_an_error(packet_id: int) -> None:
    far = side(stale=("old/#",))
    far.receive(UnsubAckPacket(packet_id, [UnsubAckReasonCode.SUCCESS]).write())
    assert "UNSUBACK" in ended(far)
    assert isinstance(far.session.ended, Unavailable)
