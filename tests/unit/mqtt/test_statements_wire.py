"""MQTT 5, statement by statement, for a client that subscribes: the very bytes that it sends, and odd ones that come.

The statements are those of the OASIS Standard of 7 March 2019, appendix B.
"""

from __future__ import annotations

import pytest
from mqtt5 import ConnAckPacket

from telemetry.errors import ConfigurationError
from telemetry.mqtt.opening import subscribe_packet
from telemetry.mqtt.session import State
from tests.unit.mqtt.far_side import Q0, Q1, Q2, FarSide, ended, publish, pubrel, settings


@pytest.fixture
def far() -> FarSide:
    """A session that is connected and subscribed."""
    side = FarSide()
    side.connect()
    side.said()
    return side


def wire(far: FarSide) -> bytes:
    """The bytes that the session wants to send."""
    return far.session.output(far.now)


def test_connect_is_of_mqtt_5_and_has_no_will() -> None:
    """[MQTT-3.1.2-1] The protocol name is MQTT, [MQTT-3.1.2-2] the version 5, [MQTT-3.1.2-3] the reserved flag 0;
    [MQTT-3.1.2-4] no clean start; without a Will [MQTT-3.1.2-11] its QoS and [MQTT-3.1.2-13] its Retain are 0."""
    side = FarSide()
    side.open()
    data = wire(side)
    assert data[0] == 0x10
    assert data[2:8] == b"\x00\x04MQTT"
    assert data[8:10] == b"\x05\x00"


def test_connect_without_user_has_only_the_client_id() -> None:
    """[MQTT-3.1.2-16], [MQTT-3.1.2-18] A flag that is 0 has no field; [MQTT-3.1.3-3], [MQTT-3.1.3-4] the ClientID is
    the first one, in UTF-8; [MQTT-3.1.2-30], [MQTT-4.12.0-7] there is no Authentication Method."""
    side = FarSide(settings(client_id="city"))
    side.open()
    data = wire(side)
    assert data.endswith(b"\x00\x04city")
    properties = data[13 : 13 + data[12]]
    assert properties == b"\x11" + (7 * 86_400).to_bytes(4, "big") + b"\x21\x00\x14"


def test_connect_with_user_and_password_has_the_fields_in_order() -> None:
    """[MQTT-3.1.2-17], [MQTT-3.1.2-19], [MQTT-3.1.3-1], [MQTT-3.1.3-12] ClientID, User Name in UTF-8, Password."""
    side = FarSide(settings(client_id="city", username="Zoë", password="secret"))
    side.open()
    data = wire(side)
    assert data[9] == 0b1100_0000
    assert data.endswith(b"\x00\x04city" + b"\x00\x04Zo\xc3\xab" + b"\x00\x06secret")


def test_every_connection_has_the_same_client_id(far: FarSide) -> None:
    """[MQTT-3.1.3-2] The ClientID identifies the Session State, so it never changes."""
    first = FarSide()
    first.open()
    far.session.lost(far.epoch)
    far.open()
    assert wire(far) == wire(first)


def test_subscribe_has_its_flags_a_property_length_and_no_reserved_bits() -> None:
    """[MQTT-3.8.1-1] The flags are 0010; [MQTT-2.2.2-1] no properties are a length of zero; [MQTT-3.8.3-1] filters are
    UTF-8; No Local [MQTT-3.8.3-3], [MQTT-3.8.3-4] and the reserved bits [MQTT-3.8.3-5] are 0; [MQTT-3.3.1-10] retained
    messages come if the subscription is new, [MQTT-3.3.1-13] as they were published."""
    assert subscribe_packet(["ä/#", "$share/g/b"], Q1).write() == (
        b"\x82\x17\x00\x01\x00" + b"\x00\x04\xc3\xa4/#\x19" + b"\x00\x0a$share/g/b\x19"
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a/#/b", id="[MQTT-4.7.1-1] # not last"),
        pytest.param("a#", id="[MQTT-4.7.1-1] # within a level"),
        pytest.param("a+/b", id="[MQTT-4.7.1-2] + within a level"),
        pytest.param("", id="[MQTT-4.7.3-1] empty"),
        pytest.param("a\0", id="[MQTT-4.7.3-2] null character"),
        pytest.param("x" * 65_536, id="[MQTT-4.7.3-3] too long"),
        pytest.param("\ud800", id="[MQTT-1.5.4-1] surrogate"),
        pytest.param("$share//a", id="[MQTT-4.8.2-1] no share name"),
        pytest.param("$share/g", id="[MQTT-4.8.2-2] share name without a filter"),
        pytest.param("$share/g/", id="[MQTT-4.8.2-2] share name with an empty filter"),
        pytest.param("$share/g+/a", id="[MQTT-4.8.2-2] wildcard in the share name"),
    ],
)
def test_what_is_no_filter_is_refused_before_it_is_sent(name: str) -> None:
    """[MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-3], [MQTT-4.8.2-1], [MQTT-4.8.2-2] and the others that are named."""
    with pytest.raises(ConfigurationError, match="no topic filter"):
        subscribe_packet([name], Q1).write()


def test_answers_say_success_in_the_shortest_way(far: FarSide) -> None:
    """[MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.7.2-1] A Reason Code of the list, success being the one that is left out;
    [MQTT-3.4.2-2], [MQTT-3.4.2-3], [MQTT-3.5.2-2], [MQTT-3.5.2-3], [MQTT-3.7.2-2], [MQTT-3.7.2-3] neither Reason String
    nor User Property, so that no packet is larger than the broker takes."""
    far.settle(far.numbers(publish(258), publish(259, qos=Q2)))
    assert wire(far) == b"\x40\x02\x01\x02" + b"\x50\x02\x01\x03"
    far.receive(pubrel(259), pubrel(5))
    assert wire(far) == b"\x70\x02\x01\x03" + b"\x70\x03\x00\x05\x92"


def test_leave_is_taken_in_the_shortest_way(far: FarSide) -> None:
    """[MQTT-3.14.2-1], [MQTT-3.14.2-3], [MQTT-3.14.2-4] A code of the list, neither Reason String nor User Property;
    [MQTT-3.14.4-2] then the Network Connection is closed, which is what ENDED asks for."""
    far.session.disconnect()
    assert wire(far) in (b"\xe0\x00", b"\xe0\x01\x00", b"\xe0\x02\x00\x00")
    assert far.session.state is State.ENDED


def test_error_is_told_with_its_code_alone(far: FarSide) -> None:
    """[MQTT-4.13.1-1] A malformed packet closes the connection; [MQTT-3.14.2-1] the DISCONNECT says 0x81."""
    far.receive(b"\x00\x00")
    assert wire(far) in (b"\xe0\x01\x81", b"\xe0\x02\x81\x00")
    assert far.session.state is State.ENDED


def test_ping_without_server_keep_alive_follows_ours(far: FarSide) -> None:
    """[MQTT-3.2.2-22] Without a Server Keep Alive the Server uses ours, and so do we."""
    far.wait(14)
    assert far.heard() == [("PINGREQ", None)]


def test_qos_0_has_no_packet_id(far: FarSide) -> None:
    """[MQTT-2.2.1-2] A PUBLISH with QoS 0 has no Packet Identifier; [MQTT-4.3.1-1] nor the DUP flag."""
    (message,) = far.receive(b"\x30\x06\x00\x01a\x00\x00\x07")
    assert (message.packet_id, message.payload, message.duplicate) == (None, b"\x00\x07", False)


def test_topic_alias_is_invalid_on_every_connection(far: FarSide) -> None:
    """[MQTT-3.3.2-7] No mapping is carried to another connection, [MQTT-3.1.2-26] and our maximum is 0 on each."""
    far.receive(publish(1, topic="city/v1/waste/a", topic_alias=1))
    assert "topic alias" in ended(far)
    far.reconnect()
    assert far.receive(publish(1, topic="", topic_alias=1)) == []
    assert far.heard() == [("DISCONNECT", 0x94)]


def test_message_that_has_expired_is_acknowledged_all_the_same(far: FarSide) -> None:
    """[MQTT-4.3.3-13] The QoS 2 sequence goes on whatever expires; here nothing does, for readings do not age."""
    numbers = far.numbers(publish(1, qos=Q2, message_expiry_interval=1))
    far.wait(5)
    far.settle(numbers)
    assert far.heard() == [("PUBREC", 1)]
    far.receive(pubrel(1))
    assert far.heard() == [("PUBCOMP", 1)]


def test_topic_outside_of_our_filters_is_delivered(far: FarSide) -> None:
    """[MQTT-3.3.2-3] binds the Server. Should it send something else, it is ours to refuse by name, not to drop."""
    assert [message.topic for message in far.receive(publish(1, topic="somewhere/else"))] == ["somewhere/else"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(publish(1, content_type="??x").replace(b"??x", b"\xff\xffx"), id="content type"),
        pytest.param(publish(1, response_topic="??x").replace(b"??x", b"\xff\xffx"), id="response topic"),
        pytest.param(publish(1, user_properties=[("k", "??x")]).replace(b"??x", b"\xff\xffx"), id="user property"),
        pytest.param(publish(1, topic="??x").replace(b"??x", b"\xff\xffx"), id="topic"),
    ],
)
def test_strings_of_a_publish_must_be_utf_8(far: FarSide, data: bytes) -> None:
    """[MQTT-3.3.2-1] Topic Name, [MQTT-3.3.2-13] Response Topic, [MQTT-3.3.2-19] Content Type and [MQTT-1.5.7-1] both
    strings of a User Property are UTF-8."""
    assert far.receive(data) == []
    assert far.heard() == [("DISCONNECT", 0x81)]


def test_subscription_identifier_0_is_malformed(far: FarSide) -> None:
    """[MQTT-3.3.4-3] concerns identifiers that we never give; section 3.3.2.3.8 makes the value 0 an error anyway."""
    far.receive(publish(1, subscription_ids=[4]).replace(b"\x0b\x04", b"\x0b\x00"))
    assert far.heard() == [("DISCONNECT", 0x81)]


def test_unknown_reason_code_of_pubrel_is_malformed(far: FarSide) -> None:
    """[MQTT-3.6.2-1] The sender of a PUBREL MUST use one of the PUBREL Reason Codes."""
    far.receive(b"\x62\x03\x00\x01\x05")
    assert far.heard() == [("DISCONNECT", 0x81)]


def test_unknown_reason_code_of_suback_is_malformed() -> None:
    """[MQTT-3.9.3-2] The Server MUST use one of the Subscribe Reason Codes."""
    side = FarSide()
    side.open()
    side.receive(ConnAckPacket().write())
    side.said()
    side.receive(b"\x90\x04\x00\x01\x00\x05")
    assert side.heard() == [("DISCONNECT", 0x81)]


def test_downgraded_message_is_taken_as_it_comes(far: FarSide) -> None:
    """[MQTT-3.8.4-8], [MQTT-3.3.4-2] A message comes with the lower of two QoS; each message says which."""
    assert [message.qos for message in far.receive(publish(qos=Q0), publish(1), publish(2, qos=Q2))] == [Q0, Q1, Q2]
