"""What can end a connection to the broker, in sentences: who refused what, and which setting puts it right.

Unavailable             retry with backoff
├── ProtocolError       the broker broke MQTT 5; it is told so with the reason code and left
└── TakenOver           another process uses our client id; retry much later, so that the two do not fight
ConfigurationError      the broker refuses what is configured; retrying cannot help, so halt
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from mqtt5 import ConnAckPacket, ConnAckReasonCode, DisconnectPacket, DisconnectReasonCode, SubAckReasonCode

from telemetry.errors import ConfigurationError, TelemetryError, Unavailable

_USER: Final = "see mqtt.username and mqtt.password"
_RIGHTS: Final = "see mqtt.username and the broker's access control list"
_FILTERS: Final = "see mqtt.topic_root and what the broker supports"

# The codec's codes are typed as IntEnum, but can be neither hashed nor ordered nor formatted; their values can.
_REFUSALS: Final = {
    ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION.value: "mqtt.host must name a broker that speaks MQTT 5",
    ConnAckReasonCode.CLIENT_ID_NOT_VALID.value: "see mqtt.client_id",
    ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD.value: _USER,
    ConnAckReasonCode.NOT_AUTHORIZED.value: _USER,
    ConnAckReasonCode.BANNED.value: "see mqtt.client_id and mqtt.username",
    ConnAckReasonCode.BAD_AUTHENTICATION_METHOD.value: _USER,
}
"""CONNACK codes that stay until a person acts. The others (busy, unavailable, quota) pass by themselves."""

_EXPELLED: Final = {
    DisconnectReasonCode.NOT_AUTHORIZED.value: _RIGHTS,
    DisconnectReasonCode.TOPIC_FILTER_INVALID.value: _FILTERS,
    DisconnectReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED.value: _FILTERS,
    DisconnectReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED.value: _FILTERS,
}

_PASSING_SUBSCRIPTION: Final = (SubAckReasonCode.PACKET_ID_IN_USE, SubAckReasonCode.QUOTA_EXCEEDED)


class ProtocolError(Unavailable):
    """The broker sent what MQTT 5 does not allow.

    Args:
        reason: what the DISCONNECT tells it.
        detail: one sentence that names what was wrong.
    """

    def __init__(self, reason: DisconnectReasonCode, detail: str) -> None:
        super().__init__(f"the broker broke the protocol (0x{reason.value:02X}): {detail}")
        self.reason = reason


class TakenOver(Unavailable):
    """Another connection with our client id has taken the session."""


def malformed(detail: str) -> ProtocolError:
    """Bytes that are no MQTT 5 packet."""
    return ProtocolError(DisconnectReasonCode.MALFORMED_PACKET, detail)


def violation(detail: str) -> ProtocolError:
    """A packet that may not come here or now, or whose values contradict each other."""
    return ProtocolError(DisconnectReasonCode.PROTOCOL_ERROR, detail)


def refused(packet: ConnAckPacket, address: str) -> TelemetryError:
    """What a CONNACK with an error code means."""
    sentence = f"the broker at {address} refuses us: {_told(packet.reason_code, packet.reason_str)}"
    sentence += _elsewhere(packet.server_reference)
    if setting := _REFUSALS.get(packet.reason_code.value):
        return ConfigurationError(f"{sentence}; {setting}")
    return Unavailable(sentence)


def disconnected(packet: DisconnectPacket, address: str, client_id: str) -> TelemetryError:
    """What a DISCONNECT of the broker means."""
    if packet.reason_code is DisconnectReasonCode.SESSION_TAKEN_OVER:
        return TakenOver(
            f"another process has connected to {address} as {client_id} and taken our session; "
            "give each process a mqtt.client_id of its own, or stop one of the two"
        )
    sentence = f"the broker at {address} disconnected us: {_told(packet.reason_code, packet.reason_str)}"
    sentence += _elsewhere(packet.server_reference)
    if setting := _EXPELLED.get(packet.reason_code.value):
        return ConfigurationError(f"{sentence}; {setting}")
    return Unavailable(sentence)


def unsubscribed(codes: Sequence[SubAckReasonCode], filters: Sequence[str], address: str) -> TelemetryError | None:
    """What a SUBACK means when a filter was not granted at QoS 1 at least; None when all were."""
    if len(codes) != len(filters):
        return violation(f"SUBACK answers {len(codes)} of {len(filters)} topic filters")
    failed = [(name, code) for name, code in zip(filters, codes, strict=True) if _insufficient(code)]
    if not failed:
        return None
    listed = ", ".join(f"{name} ({_reason(code)})" for name, code in failed)
    sentence = f"the broker at {address} refuses the subscription to {listed}"
    if all(code in _PASSING_SUBSCRIPTION for _, code in failed):
        return Unavailable(sentence)
    if any(code is SubAckReasonCode.NOT_AUTHORIZED for _, code in failed):
        return ConfigurationError(f"{sentence}; {_RIGHTS}")
    return ConfigurationError(f"{sentence}; at least QoS 1 is needed, {_FILTERS}")


def unwatched(codes: Sequence[SubAckReasonCode], counters: Sequence[str]) -> list[str]:
    """The counters that the broker does not show us, each with its reason.

    Raises:
        ProtocolError: the SUBACK does not answer our SUBSCRIBE.
    """
    if len(codes) != len(counters):
        raise violation(f"SUBACK answers {len(codes)} of {len(counters)} topic filters")
    refused = SubAckReasonCode.UNSPECIFIED_ERROR.value
    return [f"{name} ({_reason(code)})" for name, code in zip(counters, codes, strict=True) if code.value >= refused]


def _insufficient(code: SubAckReasonCode) -> bool:
    """QoS 0 is as bad as a refusal: the broker would drop messages whenever we are away."""
    return code.value >= SubAckReasonCode.UNSPECIFIED_ERROR.value or code is SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE


def _reason(code: IntEnum) -> str:
    return f"{code.name.lower().replace('_', ' ')}, 0x{code.value:02X}"


def _told(code: IntEnum, words: str | None) -> str:
    return f"{_reason(code)}: {words}" if words else _reason(code)


def _elsewhere(server_reference: str | None) -> str:
    return f" (it points to {server_reference}, which is not followed; mqtt.host decides)" if server_reference else ""
