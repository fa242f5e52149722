"""A broker's persistent session as a model: what it holds, sends, sends again, and which acknowledgements it may get.

It loses nothing. It gives packet ids away again as soon as it can; where the world says so it gives away ids that are
still open, as Mosquitto 2.0 does, or other ids for the same messages after a restart, and exceeds the Receive Maximum.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import mqtt5
from mqtt5 import (
    ConnAckPacket,
    ConnectPacket,
    DisconnectPacket,
    Packet,
    PingReqPacket,
    PingRespPacket,
    PubAckPacket,
    PubCompPacket,
    PublishPacket,
    PubRecPacket,
    PubRelPacket,
    QoS,
    SubAckPacket,
    SubAckReasonCode,
    SubscribePacket,
)

from tests.integration.ingest.readings_model import Content

SEQUENCE = "sequence"
"""User property by which the test knows a message again; ingest does not look at it."""


@dataclass(eq=False)
class Message:
    """A message that the broker has taken; with a packet id from its first delivery until it is acknowledged."""

    sequence: int
    content: Content
    topic: str
    payload: bytes
    qos: QoS
    packet_id: int = 0
    released: bool = False
    sent_before: bool = False


class Broker:
    """The session that ingest has with it.

    Args:
        overrun: messages beyond the Receive Maximum that it has in flight nevertheless.
        open_ids: packet ids of QoS 1 messages go round in a circle of so many; 0: the least that is free.
        is_settled: whether the transaction with a message has committed, and the session was told.
    """

    def __init__(self, overrun: int, open_ids: int, is_settled: Callable[[Message], bool]) -> None:
        self._overrun = overrun
        self._open_ids = open_ids
        self._is_settled = is_settled
        self._given = count()
        self._queue: deque[Message] = deque()
        self._open: list[Message] = []
        self._window = 0
        self._known = False
        self._serving = False
        self._owed: list[tuple[type, int, Message]] = []
        self._checked = self._arrived = 0
        self.messages: list[Message] = []
        self.down = bytearray()
        self.up = bytearray()

    @property
    def drained(self) -> bool:
        """Whether it holds nothing any more."""
        return not self._queue and not self._open

    def publish(self, content: Content, topic: str, qos: QoS) -> None:
        """A gateway publishes."""
        message = Message(len(self.messages), content, topic, content.payload(), qos)
        self.messages.append(message)
        self._queue.append(message)
        self._fill()

    def disconnect(self) -> None:
        """The connection is gone, with all that was under way on it."""
        self._serving = False
        self._owed.clear()
        self._checked = self._arrived = 0
        self.down.clear()
        self.up.clear()

    def restart(self, other_ids: bool) -> None:
        """It comes back from its store, for QoS 1 perhaps with other packet ids."""
        self.disconnect()
        if other_ids:
            at_least_once = [message for message in self._open if message.qos is QoS.AT_LEAST_ONCE]
            ids = [message.packet_id for message in at_least_once]
            for message, packet_id in zip(at_least_once, ids[1:] + ids[:1], strict=True):
                message.packet_id = packet_id

    def send(self, data: bytes) -> None:
        """Ingest has sent this, and it is on its way; an acknowledgement is judged at this moment."""
        for packet in _packets(bytearray(data)):
            if isinstance(packet, (PubAckPacket, PubRecPacket)):
                kind, packet_id, message = self._owed[self._checked]
                assert (type(packet), packet.packet_id) == (kind, packet_id), "not in the order of receipt"
                assert self._is_settled(message), f"acknowledged, but not committed and settled: {message}"
                self._checked += 1
        self.up += data

    def hear(self, size: int) -> None:
        """So many bytes of what is on its way arrive."""
        taken = bytearray(self.up[:size])
        for packet in _packets(taken):
            self._take(packet)
        if self.up:  # not after a DISCONNECT
            del self.up[: min(size, len(self.up)) - len(taken)]

    def _take(self, packet: Packet) -> None:
        if isinstance(packet, ConnectPacket):
            self._window = packet.receive_max + self._overrun
            self.down += ConnAckPacket(session_present=self._known).write()
            self._known = True
        elif isinstance(packet, SubscribePacket):
            self.down += SubAckPacket(packet.packet_id, [SubAckReasonCode.GRANTED_QOS_EXACTLY_ONCE]).write()
            self._resume()
        elif isinstance(packet, (PubAckPacket, PubRecPacket)):
            self._acknowledge(packet)
        elif isinstance(packet, PubCompPacket):
            (message,) = [each for each in self._open if each.released and each.packet_id == packet.packet_id]
            self._open.remove(message)
            self._fill()
        elif isinstance(packet, PingReqPacket):
            self.down += PingRespPacket().write()
        else:
            assert isinstance(packet, DisconnectPacket), packet
            self.disconnect()

    def _acknowledge(self, packet: PubAckPacket | PubRecPacket) -> None:
        _, _, message = self._owed[self._arrived]
        self._arrived += 1
        if isinstance(packet, PubRecPacket):
            message.released = True
            self.down += PubRelPacket(message.packet_id).write()
        else:
            self._open.remove(message)
            self._fill()

    def _resume(self) -> None:
        """Everything that is open again, in order; then what is new."""
        self._serving = True
        for message in self._open:
            if message.released:
                self.down += PubRelPacket(message.packet_id).write()
            else:
                self._deliver(message)
        self._fill()

    def _fill(self) -> None:
        while self._serving and self._queue and len(self._open) < self._window:
            message = self._queue.popleft()
            if message.qos is not QoS.AT_MOST_ONCE:
                message.packet_id = self._free_id(message.qos)
                self._open.append(message)
            self._deliver(message)

    def _free_id(self, qos: QoS) -> int:
        if qos is QoS.AT_LEAST_ONCE and self._open_ids:
            return next(self._given) % self._open_ids + 1
        taken = {message.packet_id for message in self._open}
        return next(
            packet_id for packet_id in count(1 if qos is QoS.AT_LEAST_ONCE else 1_000) if packet_id not in taken
        )

    def _deliver(self, message: Message) -> None:
        packet_id = message.packet_id or None
        self.down += PublishPacket(
            message.topic,
            message.payload,
            qos=message.qos,
            packet_id=packet_id,
            duplicate=message.sent_before,
            user_properties=[(SEQUENCE, str(message.sequence))],
        ).write()
        message.sent_before = message.qos is not QoS.AT_MOST_ONCE
        if packet_id is not None:
            kind = PubAckPacket if message.qos is QoS.AT_LEAST_ONCE else PubRecPacket
            self._owed.append((kind, packet_id, message))


def _packets(data: bytearray) -> list[Packet]:
    """Takes the whole packets out of `data`; the beginning of another one stays."""
    found: list[Packet] = []
    while data:
        try:
            packet, size = mqtt5.read(memoryview(bytes(data)))
        except IndexError:
            break
        found.append(packet)
        del data[:size]
    return found
