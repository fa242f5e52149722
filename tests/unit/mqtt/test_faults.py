"""The sentences that an operator reads, and what they make the process do."""

from __future__ import annotations

import pytest
from mqtt5 import ConnAckPacket, ConnAckReasonCode, DisconnectPacket, DisconnectReasonCode, SubAckReasonCode

from telemetry.errors import ConfigurationError, Unavailable
from telemetry.mqtt.faults import ProtocolError, TakenOver, disconnected, refused, unsubscribed

WHERE = "broker:1883"


@pytest.mark.parametrize(
    ("code", "setting"),
    [
        (ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD, "mqtt.username and mqtt.password"),
        (ConnAckReasonCode.NOT_AUTHORIZED, "mqtt.username and mqtt.password"),
        (ConnAckReasonCode.CLIENT_ID_NOT_VALID, "mqtt.client_id"),
        (ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION, "mqtt.host"),
        (ConnAckReasonCode.BANNED, "mqtt.client_id"),
    ],
)
def test_refusal_that_a_person_must_put_right_names_the_setting(code: ConnAckReasonCode, setting: str) -> None:
    error = refused(ConnAckPacket(reason_code=code, reason_str="because"), WHERE)
    assert isinstance(error, ConfigurationError)
    assert setting in str(error)
    assert WHERE in str(error)
    assert "because" in str(error)


@pytest.mark.parametrize(
    "code",
    [
        ConnAckReasonCode.SERVER_BUSY,
        ConnAckReasonCode.SERVER_UNAVAILABLE,
        ConnAckReasonCode.QUOTA_EXCEEDED,
        ConnAckReasonCode.CONNECTION_RATE_EXCEEDED,
        ConnAckReasonCode.UNSPECIFIED_ERROR,
    ],
)
def test_refusal_that_passes_is_tried_again(code: ConnAckReasonCode) -> None:
    assert isinstance(refused(ConnAckPacket(reason_code=code), WHERE), Unavailable)


def test_refusal_names_the_other_broker_that_is_not_followed() -> None:
    packet = ConnAckPacket(reason_code=ConnAckReasonCode.SERVER_MOVED, server_reference="other:1883")
    assert "points to other:1883, which is not followed" in str(refused(packet, WHERE))


def test_takeover_is_told_in_a_sentence_with_the_way_out() -> None:
    packet = DisconnectPacket(reason_code=DisconnectReasonCode.SESSION_TAKEN_OVER)
    error = disconnected(packet, WHERE, "telemetry-ingest")
    assert isinstance(error, TakenOver)
    assert str(error) == (
        "another process has connected to broker:1883 as telemetry-ingest and taken our session; "
        "give each process a mqtt.client_id of its own, or stop one of the two"
    )


def test_disconnect_for_want_of_rights_halts() -> None:
    packet = DisconnectPacket(reason_code=DisconnectReasonCode.NOT_AUTHORIZED)
    error = disconnected(packet, WHERE, "c")
    assert isinstance(error, ConfigurationError)
    assert "mqtt.username" in str(error)


@pytest.mark.parametrize(
    "code",
    [
        DisconnectReasonCode.SERVER_SHUTTING_DOWN,
        DisconnectReasonCode.ADMINISTRATIVE_ACTION,
        DisconnectReasonCode.KEEP_ALIVE_TIMEOUT,
        DisconnectReasonCode.USE_ANOTHER_SERVER,
    ],
)
def test_disconnect_that_passes_is_tried_again(code: DisconnectReasonCode) -> None:
    packet = DisconnectPacket(reason_code=code, server_reference="other")
    error = disconnected(packet, WHERE, "c")
    assert type(error) is Unavailable
    assert "other" in str(error)


def test_subscription_granted_is_no_fault() -> None:
    granted = [SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE, SubAckReasonCode.GRANTED_QOS_EXACTLY_ONCE]
    assert unsubscribed(granted, ["a", "b"], WHERE) is None


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (SubAckReasonCode.NOT_AUTHORIZED, ConfigurationError, "access control list"),
        (SubAckReasonCode.TOPIC_FILTER_INVALID, ConfigurationError, "mqtt.topic_root"),
        (SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE, ConfigurationError, "at least QoS 1 is needed"),
        (SubAckReasonCode.UNSPECIFIED_ERROR, ConfigurationError, "b (unspecified error, 0x80)"),
        (SubAckReasonCode.QUOTA_EXCEEDED, Unavailable, "b (quota exceeded, 0x97)"),
    ],
)
def test_subscription_refused_names_the_filter(code: SubAckReasonCode, kind: type[Exception], words: str) -> None:
    error = unsubscribed([SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE, code], ["a", "b"], WHERE)
    assert type(error) is kind
    assert words in str(error)
    assert "to b (" in str(error)


def test_subscription_answered_in_part_is_a_protocol_error() -> None:
    assert isinstance(unsubscribed([], ["a"], WHERE), ProtocolError)
