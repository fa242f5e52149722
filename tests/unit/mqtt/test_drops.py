"""The broker's counters: how they are asked for, and what is made of them."""

from __future__ import annotations

import pytest
from mqtt5 import (
    DisconnectPacket,
    DisconnectReasonCode,
    QoS,
    RetainHandling,
    SubAckPacket,
    SubAckReasonCode,
    SubscribePacket,
)
from structlog.testing import capture_logs

from telemetry.errors import ConfigurationError, Unavailable
from telemetry.mqtt import drops as module
from telemetry.mqtt.drops import VERSION, BrokerDrops
from telemetry.mqtt.session import State
from tests.unit.mqtt.far_side import Q0, FarSide, ended, publish

COUNTERS = ("$SYS/broker/dropped", "$SYS/brokers/+/dropped")
TOPIC = COUNTERS[0]
GRANTED, REFUSED = SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE, SubAckReasonCode.NOT_AUTHORIZED


@pytest.fixture
def far() -> FarSide:
    """A session that is subscribed and has asked for two counters."""
    side = FarSide(counters=COUNTERS)
    side.connect()
    return side


def answer(*codes: SubAckReasonCode) -> bytes:
    return SubAckPacket(3, list(codes)).write()


def count(value: object, topic: str = TOPIC) -> bytes:
    return publish(payload=str(value).encode(), qos=Q0, topic=topic, retain=True)


def asked(far: FarSide) -> list[list[str]]:
    """The filters of each SUBSCRIBE since the session was asked last."""
    return [
        [each.pattern for each in packet.topic_filters] for packet in far.said() if isinstance(packet, SubscribePacket)
    ]


def test_counters_are_asked_for_once_our_own_topics_are_granted(far: FarSide) -> None:
    assert far.session.state is State.READY
    (packet,) = far.said()
    assert isinstance(packet, SubscribePacket)
    assert packet.packet_id == 3
    wanted = [(each.pattern, each.max_qos, each.retain_handling) for each in packet.topic_filters]
    assert wanted == [(name, QoS.AT_MOST_ONCE, RetainHandling.SEND_ALWAYS) for name in COUNTERS]


def test_counter_is_taken_out_without_a_number_and_order_is_kept(far: FarSide) -> None:
    far.receive(answer(GRANTED, GRANTED))
    far.said()
    numbers = far.numbers(publish(1), count(5), publish(2), count(8), publish(qos=Q0))
    assert numbers == range(3)
    assert far.session.drops.total == 3
    far.settle(range(2))
    assert far.heard() == [("PUBACK", 1), ("PUBACK", 2)]


def test_refused_counters_are_told_once_and_are_no_error(far: FarSide) -> None:
    with capture_logs() as logs:
        far.receive(answer(GRANTED, REFUSED))
        far.reconnect()
        far.receive(answer(REFUSED, REFUSED))
    assert far.session.ended is None
    (log,) = [each for each in logs if each["event"] == "mqtt_counters_refused"]
    assert log["log_level"] == "info"
    assert log["counters"] == [f"{COUNTERS[1]} (not authorized, 0x87)"]


def test_broker_that_leaves_us_for_asking_is_not_asked_a_third_time(far: FarSide) -> None:
    questions = [asked(far)]
    with capture_logs() as logs:
        for _ in range(3):
            far.session.lost(far.epoch)
            far._wire = b""
            far.connect()
            questions.append(asked(far))
    assert questions == [[list(COUNTERS)], [list(COUNTERS)], [], []]
    assert [each["event"] for each in logs].count("mqtt_counters_refused") == 1


def test_answer_makes_up_for_a_connection_that_broke_by_chance(far: FarSide) -> None:
    far.reconnect()
    far.receive(answer(GRANTED, GRANTED))
    far.session.lost(far.epoch)
    far.connect()
    assert [list(COUNTERS)] == asked(far)


def test_disconnect_for_asking_is_no_reason_to_halt(far: FarSide) -> None:
    far.receive(DisconnectPacket(reason_code=DisconnectReasonCode.NOT_AUTHORIZED).write())
    assert isinstance(far.session.ended, Unavailable)


def test_disconnect_without_asking_halts(far: FarSide) -> None:
    far.receive(answer(GRANTED, GRANTED))
    far.receive(DisconnectPacket(reason_code=DisconnectReasonCode.NOT_AUTHORIZED).write())
    assert isinstance(far.session.ended, ConfigurationError)


@pytest.mark.parametrize("codes", [[GRANTED], [GRANTED] * 3])
def test_answer_to_another_number_of_counters_is_refused(far: FarSide, codes: list[SubAckReasonCode]) -> None:
    far.receive(answer(*codes))
    assert "of 2 topic filters" in ended(far)


def test_answer_that_was_not_asked_for_is_refused(far: FarSide) -> None:
    far.receive(answer(GRANTED, GRANTED))
    far.receive(answer(GRANTED, GRANTED))
    assert "SUBACK for 3" in ended(far)


def test_session_without_counters_asks_for_none_and_drops_what_comes_of_an_old_subscription() -> None:
    far = FarSide()
    far.connect()
    assert far.said() == []
    assert far.numbers(count(5), count(9), publish(1)) == range(1)
    assert far.session.drops.total == 0


def test_counter_counts_from_its_first_value_on() -> None:
    drops = BrokerDrops(COUNTERS)
    for payload in (b"100", b"100", b"130"):
        drops.take(TOPIC, payload)
    assert (drops.total, drops.values) == (30, {TOPIC: 130})


def test_counter_goes_on_from_where_it_stood() -> None:
    drops = BrokerDrops(COUNTERS)
    drops.resume({TOPIC: 100})
    drops.take(TOPIC, b"130")
    assert drops.total == 30


def test_counter_goes_on_from_where_it_stood_although_that_is_known_late() -> None:
    drops = BrokerDrops(COUNTERS)
    for payload in (b"110", b"115"):
        drops.take(TOPIC, payload)
    drops.resume({TOPIC: 100})
    drops.take(TOPIC, b"130")
    assert (drops.total, drops.values) == (30, {TOPIC: 130})


def test_counter_that_began_anew_counts_what_it_shows() -> None:
    drops = BrokerDrops(COUNTERS)
    for payload in (b"100", b"7", b"9"):
        drops.take(TOPIC, payload)
    assert drops.total == 9


def test_nodes_of_a_cluster_have_a_counter_each() -> None:
    drops = BrokerDrops(COUNTERS)
    for node, payload in (("a", b"5"), ("b", b"100"), ("a", b"6"), ("b", b"102")):
        drops.take(f"$SYS/brokers/{node}/dropped", payload)
    assert drops.total == 3


@pytest.mark.parametrize("payload", [b"", b"many", b"-1", b"1.5", b"\xff", b"9" * 30, b"9" * 10_000])
def test_what_is_no_number_is_passed_over(payload: bytes) -> None:
    drops = BrokerDrops(COUNTERS)
    drops.take(TOPIC, payload)
    assert drops.values == {}


@pytest.mark.parametrize("topic", ["$SYS/broker/uptime", "$SYS/broker/dropped/x", "$SYS/brokers/dropped"])
def test_other_topics_of_the_broker_are_passed_over(topic: str) -> None:
    drops = BrokerDrops(COUNTERS)
    drops.take(topic, b"5")
    assert drops.values == {}


def test_counters_without_end_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_MOST", 3)
    drops = BrokerDrops(COUNTERS)
    for number in range(10):
        drops.take(f"$SYS/brokers/{number}/dropped", b"5")
    assert len(drops.values) == 3
    drops.take("$SYS/brokers/0/dropped", b"6")
    assert drops.total == 1


def test_version_of_the_broker_is_kept_and_counts_nothing() -> None:
    drops = BrokerDrops([*COUNTERS, VERSION])
    drops.take(VERSION, b"mosquitto version 2.0.11")
    assert drops.version == "mosquitto version 2.0.11"
    drops.take(VERSION, b"7")
    assert (drops.total, drops.values) == (0, {})
