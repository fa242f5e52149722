"""The broker's side of a session, played packet by packet, without a socket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mqtt5
from mqtt5 import ConnAckPacket, Packet, PublishPacket, PubRelPacket, QoS, SubAckPacket, SubAckReasonCode

from telemetry.mqtt.session import Session, State
from telemetry.settings import MqttSettings

FILTERS = ("city/v1/#",)
Q0, Q1, Q2 = QoS.AT_MOST_ONCE, QoS.AT_LEAST_ONCE, QoS.EXACTLY_ONCE


def settings(**changes: Any) -> MqttSettings:
    """Settings with a small window."""
    return MqttSettings(**{"receive_maximum": 20, **changes})


def packets(data: bytes) -> list[Packet]:
    """What a broker would read."""
    view, found = memoryview(data), []
    while view:
        packet, size = mqtt5.read(view)
        found.append(packet)
        view = view[size:]
    return found


def publish(
    packet_id: int | None = None, payload: bytes = b"{}", *, qos: QoS = Q1, topic: str = "city/v1/waste/a", **more: Any
) -> bytes:
    """A PUBLISH of the broker."""
    return PublishPacket(topic, payload, qos=qos, packet_id=packet_id, **more).write()


def pubrel(packet_id: int) -> bytes:
    """A PUBREL of the broker."""
    return PubRelPacket(packet_id).write()


class FarSide:
    """Drives a session and sees what it says; `now` is moved by hand."""

    def __init__(
        self,
        configured: MqttSettings | None = None,
        filters: Sequence[str] = FILTERS,
        counters: Sequence[str] = (),
    ) -> None:
        self.session = Session(configured or settings(qos=2), filters, counters=counters)
        self.now = 1000.0
        self.epoch = 0
        self._wire = b""

    def connect(self, connack: ConnAckPacket | None = None, *, granted: SubAckReasonCode | None = None) -> list[Packet]:
        """Connects and subscribes; returns CONNECT and SUBSCRIBE."""
        self.open()
        said = self.said()
        self.receive((connack or ConnAckPacket()).write())
        if self.session.ended is None:
            said += self.said()
            code = granted or SubAckReasonCode.GRANTED_QOS_EXACTLY_ONCE
            self.receive(SubAckPacket(1, [code]).write())
        return said

    def open(self) -> None:
        """The connection is made; CONNECT is on its way."""
        self.epoch = self.session.connect(self.now)

    def reconnect(self, *, session_present: bool = True) -> None:
        """Loses the connection and makes another one."""
        self.session.lost(self.epoch)
        self._wire = b""
        self.connect(ConnAckPacket(session_present=session_present))
        self.said()

    def receive(self, *data: bytes) -> list[PublishPacket]:
        """Gives bytes to the session; returns the messages, whole as they must be."""
        messages = self.session.receive(b"".join(data), self.now)[1]
        whole = [message for message in messages if isinstance(message, PublishPacket)]
        assert len(whole) == len(messages)
        return whole

    def numbers(self, *data: bytes) -> range:
        """Gives bytes to the session; returns the numbers of the messages."""
        first, messages = self.session.receive(b"".join(data), self.now)
        return range(first, first + len(messages))

    def settle(self, numbers: range) -> None:
        """The messages with these numbers are settled."""
        self.session.settle(numbers.start, numbers.stop)

    def said(self) -> list[Packet]:
        """What the session has sent since this was asked last."""
        self._pump()
        sent, self._wire = self._wire, b""
        return packets(sent)

    def heard(self) -> list[tuple[str, Any]]:
        """The same as kinds of packets with their packet id or reason code."""
        return [_short(packet) for packet in self.said()]

    def wait(self, seconds: float) -> None:
        """Time passes; the session does what falls due on the way, as its timer makes it."""
        self._pump()
        until = self.now + seconds
        while self.session.deadline() <= until:
            self.now = max(self.now, self.session.deadline())
            self.session.tick(self.now)
            self._pump()
        self.now = until

    def _pump(self) -> None:
        self._wire += self.session.output(self.now)


def ended(far: FarSide) -> str:
    """Why the session has ended; it must have."""
    assert far.session.state is State.ENDED
    return str(far.session.ended)


def _short(packet: Packet) -> tuple[str, Any]:
    name = type(packet).__name__.removesuffix("Packet").upper()
    if hasattr(packet, "packet_id"):
        return name, packet.packet_id
    return name, packet.reason_code.value if hasattr(packet, "reason_code") else None
