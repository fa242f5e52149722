"""How a connection is opened: the CONNECT, SUBSCRIBE and UNSUBSCRIBE that the settings ask for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from mqtt5 import ConnectPacket, QoS, RetainHandling, SubscribePacket, TopicFilter, UnsubscribePacket

from telemetry.errors import ConfigurationError
from telemetry.settings import MqttSettings

SUBSCRIBE_ID: Final = 1
UNSUBSCRIBE_ID: Final = 2
"""We send no other packets that need an id of ours."""

_LONGEST_KEEP_ALIVE: Final = 65_535
_LONGEST_EXPIRY: Final = 0xFFFF_FFFF


def keep_alive_s(settings: MqttSettings) -> int:
    """Seconds as CONNECT can say them."""
    return _seconds(settings.keep_alive, _LONGEST_KEEP_ALIVE)


def session_expiry_s(settings: MqttSettings) -> int:
    """Seconds as CONNECT can say them; the largest number means for ever."""
    return _seconds(settings.session_expiry, _LONGEST_EXPIRY)


def connect_packet(settings: MqttSettings) -> ConnectPacket:
    """No maximum packet size, for the broker would drop a larger message without a word; no topic aliases."""
    password = settings.password
    return ConnectPacket(
        settings.client_id,
        username=settings.username,
        password=None if password is None else password.get_secret_value().encode(),
        clean_start=False,
        keep_alive=keep_alive_s(settings),
        session_expiry_interval=session_expiry_s(settings),
        receive_max=settings.receive_maximum,
    )


def subscribe_packet(filters: Sequence[str], max_qos: QoS) -> SubscribePacket:
    """Retained messages come once per session and not after each reconnect.

    Raises:
        ConfigurationError: a filter is none.
    """
    handling = RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS
    try:
        wanted = [TopicFilter(name, max_qos=max_qos, retain_handling=handling) for name in filters]
    except ValueError as error:
        raise ConfigurationError(
            f"one of these is no topic filter: {', '.join(filters)}; see mqtt.topic_root"
        ) from error
    return SubscribePacket(SUBSCRIBE_ID, wanted)


def unsubscribe_packet(filters: Sequence[str]) -> UnsubscribePacket:
    """Ends subscriptions of former times; what the broker holds for them already still comes."""
    return UnsubscribePacket(UNSUBSCRIBE_ID, list(filters))


def _seconds(duration: timedelta, longest: int) -> int:
    return min(longest, math.ceil(duration.total_seconds()))
