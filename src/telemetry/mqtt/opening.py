"""How a connection is opened: the CONNECT, SUBSCRIBE and UNSUBSCRIBE that the settings ask for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from mqtt5 import ConnectPacket, QoS, RetainHandling, SubscribePacket, TopicFilter, UnsubscribePacket

from telemetry.errors import ConfigurationError
from telemetry.settings import MqttSettings

SUBSCRIBE_ID: Final = 1
"""Of the SUBSCRIBE for what we are here for."""

UNSUBSCRIBE_ID: Final = 2
"""Of the end of former subscriptions."""

WATCH_ID: Final = 3
"""Of the second SUBSCRIBE, for the broker's counters."""

_LONGEST_EXPIRY: Final = 0xFFFF_FFFF
_LONGEST_SHOWN: Final = 200


def keep_alive_s(settings: MqttSettings) -> int:
    """Seconds as CONNECT says them; the settings allow no more than it can say."""
    return math.ceil(settings.keep_alive.total_seconds())


def session_expiry_s(settings: MqttSettings) -> int:
    """Seconds as CONNECT can say them; the largest number means for ever."""
    return min(_LONGEST_EXPIRY, math.ceil(settings.session_expiry.total_seconds()))


def connect_packet(settings: MqttSettings) -> ConnectPacket:
    """No maximum packet size (see `oversize.py`), no topic aliases."""
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
        wanted = [TopicFilter(_checked(name), max_qos=max_qos, retain_handling=handling) for name in filters]
    except ValueError as error:
        raise ConfigurationError(
            f"one of these is no topic filter: {', '.join(map(_shown, filters))}; see mqtt.topic_root"
        ) from error
    return SubscribePacket(SUBSCRIBE_ID, wanted)


def watch_packet(counters: Sequence[str]) -> SubscribePacket:
    """Asks for the broker's counters. Their values are retained, and wanted after each reconnect.

    Raises:
        ConfigurationError: one of them is no topic filter.
    """
    try:
        return SubscribePacket(WATCH_ID, [TopicFilter(name, max_qos=QoS.AT_MOST_ONCE) for name in counters])
    except ValueError as error:
        raise ConfigurationError(
            f"one of these is no topic filter: {', '.join(counters)}; see mqtt.dropped_counters"
        ) from error


def unsubscribe_packet(filters: Sequence[str]) -> UnsubscribePacket:
    """Ends subscriptions of former times; what the broker holds for them already still comes."""
    return UnsubscribePacket(UNSUBSCRIBE_ID, list(filters))


def _checked(name: str) -> str:
    """The filter, where nothing is wrong with it that the codec would let pass."""
    shared = name.startswith("$share/")
    _, share, rest = name.split("/", 2) if shared and name.count("/") > 1 else ("", "", "")
    if not name or "\0" in name or (shared and not (share and rest)):
        raise ValueError(name)
    return name


def _shown(name: str) -> str:
    text = name if name.isprintable() else ascii(name)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
