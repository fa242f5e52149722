"""What a session counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class SessionStats:
    """Plain counters since the process began; read them at any time.

    Attributes:
        connections: connections that the broker accepted.
        reconnects: those of them after the first.
        sessions_lost: connections at which the broker no longer knew our session, so that messages may be missing.
        messages_received: messages delivered, repeated deliveries included.
        bytes_received: bytes read from the socket.
        qos0_dropped: QoS 0 messages that were not delivered because too much was unsettled.
        window_overruns: messages that the broker sent beyond our Receive Maximum; they are taken nevertheless.
        protocol_errors: connections that ended because the broker broke MQTT 5.
        paused_seconds: how long reading was paused for want of room behind us.
        connected: whether the broker has accepted us and we are subscribed.
        arranged: whether the broker has confirmed once that our subscriptions are those that we want, and no others.
        in_flight: messages of this connection that are delivered and not yet settled up to them.
    """

    connections: int = 0
    reconnects: int = 0
    sessions_lost: int = 0
    messages_received: int = 0
    bytes_received: int = 0
    qos0_dropped: int = 0
    window_overruns: int = 0
    protocol_errors: int = 0
    paused_seconds: float = 0.0
    connected: bool = False
    arranged: bool = False
    in_flight: int = 0
