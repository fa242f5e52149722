"""MQTT 5, statement by statement, for a client that subscribes: opening, keeping and leaving a connection.

The statements are those of the OASIS Standard of 7 March 2019, appendix B.
"""

from __future__ import annotations

import pytest
from mqtt5 import (
    AuthPacket,
    ConnAckPacket,
    ConnAckReasonCode,
    ConnectPacket,
    DisconnectPacket,
    DisconnectReasonCode,
    Packet,
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
from structlog.testing import capture_logs

from telemetry.errors import ConfigurationError, Unavailable
from telemetry.mqtt.faults import ProtocolError, TakenOver
from telemetry.mqtt.session import State
from tests.unit.mqtt.far_side import Q2, FarSide, ended, publish, pubrel, settings

MALFORMED = [("DISCONNECT", 0x81)]
PROTOCOL_ERROR = [("DISCONNECT", 0x82)]


@pytest.fixture
def far() -> FarSide:
    """A session that is connected and subscribed."""
    side = FarSide()
    side.connect()
    assert side.session.state is State.READY
    assert side.said() == []
    return side


@pytest.fixture
def fresh() -> FarSide:
    """A session whose CONNECT was sent."""
    side = FarSide()
    side.open()
    side.said()
    return side


def test_first_packet_is_connect() -> None:
    """[MQTT-3.1.0-1] The first packet sent from the Client to the Server MUST be a CONNECT packet."""
    side = FarSide()
    side.open()
    (packet,) = side.said()
    assert isinstance(packet, ConnectPacket)


def test_session_is_kept_while_away() -> None:
    """[MQTT-4.1.0-1], [MQTT-3.1.2-23] The Session State must outlive the connection: no clean start, a long expiry."""
    side = FarSide()
    side.open()
    (packet,) = side.said()
    assert isinstance(packet, ConnectPacket)
    assert not packet.clean_start
    assert packet.session_expiry_interval == 7 * 86_400


def test_subscribe_follows_connack_with_an_id_of_its_own() -> None:
    """[MQTT-2.2.1-3] A SUBSCRIBE has a non-zero Packet Identifier; [MQTT-3.8.3-2] at least one Topic Filter."""
    side = FarSide()
    connect, subscribe = side.connect()
    assert isinstance(connect, ConnectPacket)
    assert isinstance(subscribe, SubscribePacket)
    assert subscribe.packet_id > 0
    assert [wanted.pattern for wanted in subscribe.topic_filters] == ["city/v1/#"]
    assert side.session.stats.connected


@pytest.mark.parametrize("data", [publish(1), pubrel(1), PingRespPacket().write(), DisconnectPacket().write()])
def test_nothing_may_come_before_connack(fresh: FarSide, data: bytes) -> None:
    """[MQTT-3.2.0-1] CONNACK comes before any other packet; [MQTT-3.14.0-1] DISCONNECT is no exception."""
    assert fresh.receive(data) == []
    assert "while we were waiting for CONNACK" in ended(fresh)
    assert fresh.session.stats.protocol_errors == 1
    assert fresh.said() == []


def test_second_connack_is_an_error(far: FarSide) -> None:
    """[MQTT-3.2.0-2] The Server MUST NOT send more than one CONNACK in a Network Connection."""
    far.receive(ConnAckPacket().write())
    assert "CONNACK while we were subscribed" in ended(far)
    assert far.heard() == PROTOCOL_ERROR


def test_reserved_connack_flags_are_malformed(fresh: FarSide) -> None:
    """[MQTT-3.2.2-1] Bits 7-1 of the Connect Acknowledge Flags are reserved and MUST be set to 0."""
    fresh.receive(b"\x20\x03\x02\x00\x00")
    assert "Invalid acknowledge flags" in ended(fresh)


def test_session_present_on_a_first_connection_is_welcome() -> None:
    """[MQTT-3.2.2-4] concerns a client without Session State. Ours outlives the process: what it holds is in the
    database, and what the broker holds is wanted."""
    side = FarSide()
    side.connect(ConnAckPacket(session_present=True))
    assert side.session.state is State.READY
    assert side.session.stats.sessions_lost == 0


def test_state_is_discarded_when_the_broker_has_none(far: FarSide) -> None:
    """[MQTT-3.2.2-5] A Client that receives Session Present 0 MUST discard its Session State: packet id 7 is free."""
    far.settle(far.numbers(publish(7, qos=Q2)))
    far.reconnect(session_present=False)
    assert len(far.receive(publish(7, qos=Q2, duplicate=True))) == 1
    assert far.said() == []


def test_refusal_is_a_refusal_even_with_session_present(fresh: FarSide) -> None:
    """[MQTT-3.2.2-6] A CONNACK with a non-zero Reason Code has Session Present 0; [MQTT-3.2.2-7] it is the end."""
    code = ConnAckReasonCode.NOT_AUTHORIZED
    fresh.receive(ConnAckPacket(session_present=True, reason_code=code).write())
    assert isinstance(fresh.session.ended, ConfigurationError)
    assert fresh.session.stats.connections == 0
    assert fresh.said() == []


@pytest.mark.parametrize("data", [b"\x20\x03\x00\x01\x00", b"\x20\x03\x00\xff\x00"])
def test_unknown_connect_reason_code_is_malformed(fresh: FarSide, data: bytes) -> None:
    """[MQTT-3.2.2-8] The Server MUST use one of the Connect Reason Code values."""
    fresh.receive(data)
    assert "ConnAckReasonCode" in ended(fresh)


@pytest.mark.parametrize("data", [b"\x20\x02\x00\x00", b"\x20\x02\x00\x01", b"\x20\x02\x01\x00"])
def test_broker_of_mqtt_3_is_named(fresh: FarSide, data: bytes) -> None:
    """Section 3.1.2.2: a broker may answer an unknown version in the way of its own version."""
    for byte in data:
        fresh.receive(bytes([byte]))
    assert isinstance(fresh.session.ended, ConfigurationError)
    assert "answers in MQTT 3; mqtt.host must name a broker that speaks MQTT 5" in ended(fresh)


def test_packet_larger_than_the_server_takes_is_not_sent(fresh: FarSide) -> None:
    """[MQTT-3.2.2-15] The Client MUST NOT send packets exceeding Maximum Packet Size to the Server."""
    fresh.receive(ConnAckPacket(max_packet_size=10).write())
    assert "takes packets of 10 bytes" in ended(fresh)
    assert not [packet for packet in fresh.said() if isinstance(packet, SubscribePacket)]


def test_server_keep_alive_replaces_ours() -> None:
    """[MQTT-3.1.2-21], [MQTT-3.2.2-21] The Client MUST use Server Keep Alive instead of its own."""
    side = FarSide(settings(keep_alive="60s"))
    side.connect(ConnAckPacket(server_keep_alive=10))
    side.wait(10)
    assert side.heard() == [("PINGREQ", None)]


def test_pingreq_before_the_keep_alive_is_over(far: FarSide) -> None:
    """[MQTT-3.1.2-20] In the absence of other packets, the Client MUST send a PINGREQ."""
    far.wait(13)
    assert far.said() == []
    far.wait(2)
    (packet,) = far.said()
    assert isinstance(packet, PingReqPacket)


def test_pingresp_keeps_the_connection(far: FarSide) -> None:
    """[MQTT-3.12.4-1] The Server MUST send a PINGRESP in response; as long as it does, it is alive."""
    for _ in range(20):
        far.wait(14)
        assert far.heard() == [("PINGREQ", None)]
        far.receive(PingRespPacket().write())
    assert far.session.state is State.READY


def test_silence_ends_the_connection(far: FarSide) -> None:
    """Section 3.12: a Client that gets no PINGRESP within a reasonable time SHOULD close the connection."""
    far.wait(22.4)
    assert far.session.state is State.READY
    far.wait(0.2)
    assert "has fallen silent" in ended(far)
    assert type(far.session.ended) is Unavailable


def test_suback_for_another_subscribe_is_an_error() -> None:
    """[MQTT-2.2.1-6], [MQTT-3.8.4-2] A SUBACK has the Packet Identifier of its SUBSCRIBE."""
    side = FarSide()
    side.open()
    side.receive(ConnAckPacket().write())
    side.said()
    side.receive(SubAckPacket(2, [SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]).write())
    assert "SUBACK for 2" in ended(side)
    assert side.heard() == PROTOCOL_ERROR


def test_second_suback_is_an_error(far: FarSide) -> None:
    """[MQTT-3.8.4-1] Each SUBSCRIBE is answered by a SUBACK, so a second one answers nothing."""
    far.receive(SubAckPacket(1, [SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]).write())
    assert far.heard() == PROTOCOL_ERROR


@pytest.mark.parametrize("count", [0, 2])
def test_suback_has_a_reason_code_for_each_filter(count: int) -> None:
    """[MQTT-3.8.4-6] A SUBACK MUST contain a Reason Code for each Topic Filter."""
    side = FarSide()
    side.open()
    side.receive(ConnAckPacket().write())
    side.said()
    side.receive(SubAckPacket(1, [SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE] * count).write())
    assert f"answers {count} of 1 topic filters" in ended(side)
    assert side.heard() == PROTOCOL_ERROR


def test_reason_codes_are_in_the_order_of_the_filters() -> None:
    """[MQTT-3.9.3-1] The order of Reason Codes in the SUBACK MUST match the order of Topic Filters."""
    side = FarSide(filters=("good/#", "bad/#"))
    side.open()
    side.receive(ConnAckPacket().write())
    codes = [SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE, SubAckReasonCode.NOT_AUTHORIZED]
    side.receive(SubAckPacket(1, codes).write())
    assert "refuses the subscription to bad/# (not authorized, 0x87);" in ended(side)
    assert isinstance(side.session.ended, ConfigurationError)


def test_filter_granted_below_qos_1_is_refused_by_us() -> None:
    """[MQTT-3.8.4-7] The Reason Code shows the QoS that was granted, and at QoS 0 an absence loses messages."""
    side = FarSide()
    side.connect(granted=SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE)
    assert "at least QoS 1 is needed" in ended(side)
    assert not side.session.stats.connected


def test_filter_granted_at_qos_1_instead_of_2_is_taken_and_told() -> None:
    """Section 3.8.4: the Server might grant a lower Maximum QoS than the subscriber requested."""
    side = FarSide(settings(qos=2))
    with capture_logs() as said:
        side.connect(granted=SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE)
    assert side.session.stats.connected
    assert [each["event"] for each in said if each["log_level"] == "warning"] == ["mqtt_qos_reduced"]


def test_subscribe_names_the_qos_of_the_settings() -> None:
    for qos in (1, 2):
        with capture_logs() as said:
            _, subscribe = FarSide(settings(qos=qos)).connect(granted=SubAckReasonCode(qos))
        assert isinstance(subscribe, SubscribePacket)
        assert [wanted.max_qos.value for wanted in subscribe.topic_filters] == [qos]
        assert "mqtt_qos_reduced" not in {each["event"] for each in said}


def test_messages_may_come_before_suback() -> None:
    """Section 3.8.4: the Server may send matching PUBLISH packets before the SUBACK, and a resumed one does."""
    side = FarSide()
    side.open()
    side.receive(ConnAckPacket(session_present=True).write())
    assert len(side.receive(publish(1))) == 1


@pytest.mark.parametrize(
    "packet",
    [
        ConnectPacket("c"),
        SubscribePacket(1, [TopicFilter("a")]),
        UnsubscribePacket(1, ["a"]),
        PingReqPacket(),
        PubAckPacket(1),
        PubRecPacket(1),
        PubCompPacket(1),
        UnsubAckPacket(1, [UnsubAckReasonCode.SUCCESS]),
    ],
    ids=lambda packet: type(packet).__name__,
)
def test_packets_that_no_subscriber_gets_are_errors(far: FarSide, packet: Packet) -> None:
    """Table 2-1: what only clients send, or what answers packets that we never send, is a Protocol Error."""
    far.receive(packet.write())
    name = type(packet).__name__.removesuffix("Packet").upper()
    assert any(f"{name} {words}" in ended(far) for words in ("while we were subscribed", "for 1, and no"))
    assert isinstance(far.session.ended, ProtocolError)
    assert far.heard() == PROTOCOL_ERROR


def test_auth_is_an_error(far: FarSide, fresh: FarSide) -> None:
    """[MQTT-4.12.0-6] Without an Authentication Method in CONNECT the Server MUST NOT send an AUTH packet."""
    far.receive(AuthPacket(authentication_method="m").write())
    assert far.heard() == PROTOCOL_ERROR
    fresh.receive(AuthPacket(authentication_method="m").write())
    assert isinstance(fresh.session.ended, ProtocolError)


def test_authentication_method_in_connack_is_an_error(fresh: FarSide) -> None:
    """[MQTT-4.12.0-6] … and it MUST NOT send an Authentication Method in the CONNACK packet."""
    fresh.receive(ConnAckPacket(authentication_method="m").write())
    assert "authentication method" in ended(fresh)


@pytest.mark.parametrize("data", [b"\xd1\x00", b"\xe1\x00", b"\xf1\x00", b"\x91\x03\x00\x01\x00"])
def test_reserved_flags_are_malformed(far: FarSide, data: bytes) -> None:
    """[MQTT-2.1.3-1] Reserved flag bits have a set value; for DISCONNECT [MQTT-3.14.1-1], for AUTH [MQTT-3.15.1-1]."""
    far.receive(data)
    assert far.heard() == MALFORMED


def test_length_must_be_written_with_the_fewest_bytes(far: FarSide) -> None:
    """[MQTT-1.5.5-1] The encoded value MUST use the minimum number of bytes necessary."""
    far.receive(b"\xd0\x80\x00")
    assert far.heard() == MALFORMED


def test_disconnect_of_the_server_is_not_answered(far: FarSide) -> None:
    """[MQTT-3.14.4-1] concerns the sender; to a broker that has taken leave nothing is to be said."""
    far.receive(DisconnectPacket(reason_code=DisconnectReasonCode.SERVER_SHUTTING_DOWN).write())
    assert "server shutting down, 0x8B" in ended(far)
    assert far.said() == []


def test_session_taken_over_is_told(far: FarSide) -> None:
    """[MQTT-3.1.4-3] The Server sends DISCONNECT 0x8E when another connection has our ClientID."""
    far.receive(DisconnectPacket(reason_code=DisconnectReasonCode.SESSION_TAKEN_OVER).write())
    assert isinstance(far.session.ended, TakenOver)


def test_disconnect_with_a_session_expiry_is_an_error(far: FarSide) -> None:
    """[MQTT-3.14.2-2] The Session Expiry Interval MUST NOT be sent on a DISCONNECT by the Server."""
    far.receive(DisconnectPacket(session_expiry_interval=5).write())
    assert far.heard() == PROTOCOL_ERROR


def test_unknown_disconnect_reason_code_is_malformed(far: FarSide) -> None:
    """[MQTT-3.14.2-1] The Server MUST use one of the DISCONNECT Reason Code values."""
    far.receive(b"\xe0\x01\x05")
    assert far.heard() == MALFORMED


def test_leaving_keeps_the_session(far: FarSide) -> None:
    """Section 3.14.2.2.2: without a Session Expiry Interval in DISCONNECT that of CONNECT stays."""
    far.session.disconnect()
    (packet,) = far.said()
    assert isinstance(packet, DisconnectPacket)
    assert packet.reason_code is DisconnectReasonCode.NORMAL_DISCONNECTION
    assert packet.session_expiry_interval is None


def test_nothing_is_sent_after_disconnect(far: FarSide) -> None:
    """[MQTT-3.14.4-1] After sending a DISCONNECT the sender MUST NOT send any more packets."""
    numbers = far.numbers(publish(1), publish(2))
    far.session.disconnect()
    assert far.heard() == [("DISCONNECT", 0)]
    far.settle(numbers)
    assert far.receive(publish(3, qos=Q2), pubrel(9)) == []
    far.wait(100)
    assert far.said() == []


def test_error_closes_the_connection(far: FarSide) -> None:
    """[MQTT-4.13.2-1] After a Reason Code of 0x80 or more the connection MUST be closed: the session wants it."""
    far.receive(publish(1), b"\x00\x00")
    assert far.session.state is State.ENDED
    assert not far.session.stats.connected
