"""MQTT 5, statement by statement, for a client that subscribes: messages and their acknowledgement.

The statements are those of the OASIS Standard of 7 March 2019, appendix B.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from mqtt5 import PublishPacket, QoS
from structlog.testing import capture_logs

from tests.unit.mqtt.far_side import Q0, Q1, Q2, FarSide, ended, publish, pubrel

PUBACK, PUBREC, PUBCOMP = "PUBACK", "PUBREC", "PUBCOMP"


@pytest.fixture
def far() -> FarSide:
    """A session that is connected and subscribed, with a Receive Maximum of 20."""
    side = FarSide()
    side.connect()
    side.said()
    return side


def payloads(messages: Sequence[PublishPacket]) -> list[bytes]:
    return [message.payload for message in messages]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x30\x04\x00\x01\xff\x00", id="not UTF-8"),
        pytest.param(b"\x30\x06\x00\x03\xed\xa0\x80\x00", id="surrogate"),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_text_must_be_utf_8(far: FarSide, data: bytes) -> None:
    """[MQTT-1.5.4-1] Character data MUST be well-formed UTF-8, without U+D800 to U+DFFF."""
    assert far.receive(data) == []
    assert far.heard() == [("DISCONNECT", 0x81)]


def test_topic_with_a_null_character_is_malformed(far: FarSide) -> None:
    """[MQTT-1.5.4-2], [MQTT-4.7.3-2] A topic MUST NOT include U+0000, which PostgreSQL could not store either."""
    far.receive(publish(1, topic="city/v1/waste/\0"))
    assert "U+0000" in ended(far)
    assert far.heard() == [("DISCONNECT", 0x81)]


def test_byte_order_mark_is_part_of_the_topic(far: FarSide) -> None:
    """[MQTT-1.5.4-3] 0xEF 0xBB 0xBF is U+FEFF wherever it appears and MUST NOT be skipped over."""
    (message,) = far.receive(publish(1, topic="\ufeffcity"))
    assert message.topic == "\ufeffcity"


@pytest.mark.parametrize("qos", [Q1, Q2])
def test_packet_id_is_never_0(far: FarSide, qos: QoS) -> None:
    """[MQTT-2.2.1-4] A PUBLISH with QoS > 0 has a non-zero Packet Identifier."""
    far.receive(publish(0, qos=qos))
    assert far.heard() == [("DISCONNECT", 0x82)]


def test_answers_have_the_packet_id_of_the_message(far: FarSide) -> None:
    """[MQTT-2.2.1-5] A PUBACK, PUBREC or PUBCOMP has the Packet Identifier of the PUBLISH."""
    far.settle(far.numbers(publish(513), publish(65_535, qos=Q2)))
    assert far.heard() == [(PUBACK, 513), (PUBREC, 65_535)]
    far.receive(pubrel(65_535))
    assert far.heard() == [(PUBCOMP, 65_535)]


def test_dup_with_qos_0_is_malformed(far: FarSide) -> None:
    """[MQTT-3.3.1-2] The DUP flag MUST be set to 0 for all QoS 0 messages."""
    far.receive(b"\x38\x04\x00\x01a\x00")
    assert far.heard() == [("DISCONNECT", 0x81)]


def test_both_qos_bits_are_malformed(far: FarSide) -> None:
    """[MQTT-3.3.1-4] A PUBLISH Packet MUST NOT have both QoS bits set to 1."""
    far.receive(b"\x36\x06\x00\x01a\x00\x01\x00")
    assert far.heard() == [("DISCONNECT", 0x81)]


@pytest.mark.parametrize("topic", ["city/+/waste", "city/#", "#"])
def test_topic_with_a_wildcard_is_invalid(far: FarSide, topic: str) -> None:
    """[MQTT-3.3.2-2], [MQTT-4.7.0-1] The Topic Name of a PUBLISH MUST NOT contain wildcard characters."""
    # The codec writes no such topic, so a placeholder is overwritten.
    far.receive(publish(1, topic="?" * len(topic)).replace(b"?" * len(topic), topic.encode()))
    assert "wildcard" in ended(far)
    assert far.heard() == [("DISCONNECT", 0x90)]


def test_empty_topic_is_an_error(far: FarSide) -> None:
    """[MQTT-4.7.3-1] All Topic Names MUST be at least one character long."""
    far.receive(b"\x30\x03\x00\x00\x00")
    assert far.heard() == [("DISCONNECT", 0x81)]


@pytest.mark.parametrize("topic", ["", "city/v1/waste/a"])
def test_topic_alias_that_we_did_not_allow_is_invalid(far: FarSide, topic: str) -> None:
    """[MQTT-3.1.2-27], [MQTT-3.3.2-11] With Topic Alias Maximum 0 the Server MUST NOT send any Topic Alias."""
    far.receive(publish(1, topic=topic, topic_alias=1))
    assert "topic alias" in ended(far)
    assert far.heard() == [("DISCONNECT", 0x94)]


def test_topic_alias_0_is_an_error(far: FarSide) -> None:
    """[MQTT-3.3.2-8] A sender MUST NOT send a PUBLISH packet containing a Topic Alias which has the value 0."""
    far.receive(b"\x30\x07\x00\x01a\x03\x23\x00\x00")
    assert "alias" in ended(far)


def test_each_qos_is_answered_in_its_way(far: FarSide) -> None:
    """[MQTT-3.3.4-1] QoS 0: no answer; QoS 1: PUBACK; QoS 2: PUBREC."""
    far.settle(far.numbers(publish(qos=Q0), publish(1), publish(qos=Q0), publish(2, qos=Q2)))
    assert far.heard() == [(PUBACK, 1), (PUBREC, 2)]


@pytest.mark.parametrize("qos", [Q1, Q2])
def test_more_messages_than_the_receive_maximum_are_taken_and_counted(far: FarSide, qos: QoS) -> None:
    """[MQTT-3.3.4-9], [MQTT-4.9.0-2] The Server MUST NOT have more than Receive Maximum messages unacknowledged.

    Section 3.3.4 has the Client answer with DISCONNECT 0x93. We depart from it on purpose, see docs/adr/0003: Mosquitto
    2.0 sends more under load, again after each reconnect, so that leaving would mean to take in nothing at all.
    """
    with capture_logs() as logs:
        taken = far.receive(*(publish(number, qos=qos) for number in range(1, 24)))
    assert len(taken) == 23
    assert far.session.stats.window_overruns == 3
    assert far.session.is_overrun
    assert far.said() == []
    assert [line["event"] for line in logs] == ["mqtt_window_overrun"]


def test_window_is_no_longer_overrun_when_enough_is_settled(far: FarSide) -> None:
    """[MQTT-4.9.0-3] Nothing is owed but acknowledgements: they end the overrun, whatever is left unread."""
    numbers = far.numbers(*(publish(number) for number in range(1, 24)))
    far.settle(numbers[:2])
    assert far.session.is_overrun
    far.settle(numbers[2:3])
    assert not far.session.is_overrun


def test_puback_makes_room_in_the_window(far: FarSide) -> None:
    """[MQTT-4.9.0-1] The send quota of the Server grows with each PUBACK."""
    for start in range(1, 2000, 20):
        far.settle(far.numbers(*(publish(number) for number in range(start, start + 20))))
    assert far.session.stats.window_overruns == 0
    assert far.heard() == [("PUBACK", number) for number in range(1, 2001)]


def test_pubrec_makes_no_room_in_the_window_but_pubcomp_does(far: FarSide) -> None:
    """[MQTT-3.3.4-9] A QoS 2 message counts until PUBCOMP, for our PUBREC is always a success."""
    far.settle(far.numbers(*(publish(number, qos=Q2) for number in range(1, 21))))
    far.receive(pubrel(5))
    far.receive(publish(21))
    assert far.session.stats.window_overruns == 0
    far.receive(publish(22))
    assert far.session.stats.window_overruns == 1


def test_window_begins_anew_with_each_connection(far: FarSide) -> None:
    """Section 4.9: the send quota and Receive Maximum are not preserved across Network Connections."""
    far.receive(*(publish(number) for number in range(1, 21)))
    far.reconnect()
    assert len(far.receive(*(publish(number, duplicate=True) for number in range(1, 21)))) == 20
    assert far.session.stats.window_overruns == 0


def test_window_is_not_widened_by_releases_of_an_older_connection(far: FarSide) -> None:
    """Section 4.9: attempts to increment the quota above its initial value have no effect."""
    far.settle(far.numbers(*(publish(number, qos=Q2) for number in range(1, 11))))
    far.reconnect()
    far.receive(*(pubrel(number) for number in range(1, 11)))
    far.receive(*(publish(number) for number in range(1, 22)))
    assert far.session.stats.window_overruns == 1


def test_other_packets_are_answered_with_a_full_window(far: FarSide) -> None:
    """[MQTT-4.9.0-3] All other packets are processed and responded to even if the quota is zero."""
    far.receive(*(publish(number) for number in range(1, 21)))
    far.receive(pubrel(99))
    assert far.heard() == [(PUBCOMP, 99)]


def test_puback_waits_until_the_message_is_owned(far: FarSide) -> None:
    """[MQTT-4.3.2-4] The receiver responds with PUBACK, having accepted ownership: not before it is settled."""
    numbers = far.numbers(publish(1))
    assert far.said() == []
    far.settle(numbers)
    assert far.heard() == [(PUBACK, 1)]


def test_packet_id_after_puback_is_a_new_message(far: FarSide) -> None:
    """[MQTT-4.3.2-5] After PUBACK the same Packet Identifier is a new publication, whatever the DUP flag says."""
    far.settle(far.numbers(publish(1, b"old")))
    assert payloads(far.receive(publish(1, b"new", duplicate=True))) == [b"new"]


def test_pubrec_waits_until_the_message_is_owned(far: FarSide) -> None:
    """[MQTT-4.3.3-8] The receiver responds with PUBREC, having accepted ownership."""
    numbers = far.numbers(publish(1, qos=Q2))
    assert far.said() == []
    far.settle(numbers)
    assert far.heard() == [(PUBREC, 1)]


def test_repeated_message_is_answered_and_not_delivered(far: FarSide) -> None:
    """[MQTT-4.3.3-10] Until PUBREL, a repeated PUBLISH with the same id gets a PUBREC and is not delivered again."""
    far.settle(far.numbers(publish(1, qos=Q2)))
    far.said()
    assert far.receive(publish(1, qos=Q2, duplicate=True)) == []
    assert far.heard() == [(PUBREC, 1)]


def test_open_packet_id_without_dup_is_another_message(far: FarSide) -> None:
    """[MQTT-3.3.1-1] A repetition has DUP. Mosquitto 2.0 gives open ids to other messages; those must not be lost."""
    numbers = far.numbers(publish(1, b"one", qos=Q2))
    assert payloads(far.receive(publish(1, b"two", qos=Q2))) == [b"two"]
    far.settle(range(numbers.start, numbers.start + 2))
    assert far.heard() == [(PUBREC, 1), (PUBREC, 1)]


def test_open_packet_id_at_qos_1_is_acknowledged_once_for_each_message(far: FarSide) -> None:
    """[MQTT-2.2.1-4] forbids it to the Server; as acknowledgements are in order, the first one is for the first."""
    numbers = far.numbers(publish(1, b"one"), publish(1, b"two"))
    far.settle(numbers[:1])
    assert far.heard() == [(PUBACK, 1)]
    far.settle(numbers[1:])
    assert far.heard() == [(PUBACK, 1)]


def test_message_repeated_before_pubrec_is_answered_by_that_one(far: FarSide) -> None:
    """[MQTT-4.3.3-10] The PUBREC that is still to come answers the repetition, too."""
    numbers = far.numbers(publish(1, qos=Q2))
    assert far.receive(publish(1, qos=Q2, duplicate=True)) == []
    far.settle(numbers)
    assert far.heard() == [(PUBREC, 1)]


def test_repeated_message_after_a_reconnect_is_answered_and_not_delivered(far: FarSide) -> None:
    """[MQTT-4.4.0-1], [MQTT-4.3.3-10] Our PUBREC was lost; the Server resends with DUP, and the id is remembered."""
    far.settle(far.numbers(publish(1, qos=Q2)))
    far.reconnect()
    assert far.receive(publish(1, qos=Q2, duplicate=True)) == []
    assert far.heard() == [(PUBREC, 1)]


def test_release_after_a_reconnect_is_answered(far: FarSide) -> None:
    """[MQTT-4.4.0-1] The Server resends the PUBREL whose PUBCOMP was lost."""
    far.settle(far.numbers(publish(1, qos=Q2)))
    far.receive(pubrel(1))
    far.reconnect()
    far.receive(pubrel(1))
    (packet,) = far.said()
    assert packet.write() == b"\x70\x03\x00\x01\x92"


def test_pubrel_is_answered_with_pubcomp(far: FarSide) -> None:
    """[MQTT-4.3.3-11] The receiver MUST respond to a PUBREL with a PUBCOMP with the same Packet Identifier."""
    far.settle(far.numbers(publish(1, qos=Q2)))
    far.said()
    far.receive(pubrel(1))
    (packet,) = far.said()
    assert packet.write() == b"\x70\x02\x00\x01"


def test_packet_id_after_pubcomp_is_a_new_message(far: FarSide) -> None:
    """[MQTT-4.3.3-12] After PUBCOMP the same Packet Identifier is a new publication."""
    far.settle(far.numbers(publish(1, b"old", qos=Q2)))
    far.receive(pubrel(1))
    assert payloads(far.receive(publish(1, b"new", qos=Q2))) == [b"new"]


def test_pubrel_flags_are_checked(far: FarSide) -> None:
    """[MQTT-3.6.1-1] The flags of PUBREL are 0010; any other value is malformed."""
    far.receive(b"\x60\x02\x00\x01")
    assert far.heard() == [("DISCONNECT", 0x81)]


def test_pubrel_before_our_pubrec_is_an_error(far: FarSide) -> None:
    """[MQTT-4.3.3-4] The sender sends PUBREL when it receives a PUBREC."""
    far.receive(publish(1, qos=Q2), pubrel(1))
    assert "before our PUBREC" in ended(far)
    assert far.heard() == [("DISCONNECT", 0x82)]


def test_pubrel_with_packet_id_0_is_an_error(far: FarSide) -> None:
    """[MQTT-2.2.1-5] The Packet Identifier of the PUBLISH was not 0, so that of its PUBREL is not."""
    far.receive(pubrel(0))
    assert far.heard() == [("DISCONNECT", 0x82)]


def test_every_message_is_acknowledged_whatever_becomes_of_it(far: FarSide) -> None:
    """[MQTT-4.5.0-2] The Client MUST acknowledge any PUBLISH, whether or not it processes the message."""
    far.settle(far.numbers(publish(1, b""), publish(2, b"\xff" * 1000), publish(3, topic="somewhere/else")))
    assert far.heard() == [(PUBACK, 1), (PUBACK, 2), (PUBACK, 3)]


def test_pubacks_are_in_the_order_of_receipt(far: FarSide) -> None:
    """[MQTT-4.6.0-2] PUBACKs are sent in the order in which the PUBLISH packets were received."""
    numbers = far.numbers(*(publish(packet_id) for packet_id in (9, 3, 7, 1)))
    far.settle(numbers[2:])
    assert far.said() == []
    far.settle(numbers[:2])
    assert far.heard() == [(PUBACK, 9), (PUBACK, 3), (PUBACK, 7), (PUBACK, 1)]


def test_pubrecs_are_in_the_order_of_receipt(far: FarSide) -> None:
    """[MQTT-4.6.0-3] PUBRECs are sent in the order in which the PUBLISH packets were received, repetitions included."""
    far.settle(far.numbers(publish(5, qos=Q2)))
    far.said()
    numbers = far.numbers(publish(9, qos=Q2), publish(5, qos=Q2, duplicate=True), publish(3, qos=Q2))
    assert far.said() == []
    far.settle(numbers)
    assert far.heard() == [(PUBREC, 9), (PUBREC, 5), (PUBREC, 3)]


def test_retained_message_is_delivered_as_such(far: FarSide) -> None:
    """[MQTT-3.3.1-13] With Retain As Published the RETAIN flag arrives as it was published."""
    (message,) = far.receive(publish(1, retain=True))
    assert message.retain
