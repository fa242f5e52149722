"""What becomes of a PUBLISH: checked, numbered, and acknowledged once it is settled. The rules are in `session.py`."""

from __future__ import annotations

from array import array
from typing import Final

import structlog
from mqtt5 import DisconnectReasonCode, PubCompPacket, PubCompReasonCode, PublishPacket, PubRelPacket, QoS

from telemetry.mqtt.acks import NOTHING, PUBACK, PUBREC, AckFrontier, encode
from telemetry.mqtt.drops import SYSTEM, BrokerDrops
from telemetry.mqtt.exactly_once import ExactlyOnce
from telemetry.mqtt.faults import ProtocolError, malformed, violation
from telemetry.mqtt.stats import SessionStats

log = structlog.get_logger()

_AT_MOST_ONCE: Final = QoS.AT_MOST_ONCE
_AT_LEAST_ONCE: Final = QoS.AT_LEAST_ONCE


class Receiver:
    """The receiving side of all connections of a session.

    Args:
        receive_maximum: QoS 1 and 2 messages that may be unacknowledged; QoS 0 messages that may be unsettled.
        stats: where to count.
        output: where the packets go that are to be sent.
        drops: where goes what the broker says of itself; such a message is neither numbered nor delivered.
    """

    def __init__(self, receive_maximum: int, stats: SessionStats, output: list[bytes], drops: BrokerDrops) -> None:
        self._receive_maximum = receive_maximum
        self._stats = stats
        self._output = output
        self._drops = drops
        self._frontier = AckFrontier()
        self._exactly_once = ExactlyOnce()
        self._window = receive_maximum

    @property
    def next(self) -> int:
        """Number of the message that is accepted next."""
        return self._frontier.next

    @property
    def unsettled(self) -> int:
        """Messages of this epoch that wait for their acknowledgement."""
        return self._frontier.unsettled

    @property
    def is_overrun(self) -> bool:
        """Whether more is unsettled than the Receive Maximum allows, so that reading must wait."""
        return self._frontier.unsettled > self._receive_maximum

    def begin_epoch(self) -> None:
        """The connection of before is over: nothing of it is acknowledged any more."""
        self._frontier.begin_epoch()
        self._exactly_once.begin_epoch()
        self._window = self._receive_maximum
        self._stats.in_flight = 0

    def forget(self) -> None:
        """The broker has lost the session."""
        self._exactly_once.forget()

    def accept(self, packet: PublishPacket) -> bool:
        """Checks and numbers a message; whether it is to be delivered. Runs once per message, so it is kept short.

        Raises:
            ProtocolError: the broker must not have sent it.
        """
        topic = packet.topic
        if packet.topic_alias is not None:
            raise ProtocolError(DisconnectReasonCode.TOPIC_ALIAS_INVALID, "it used a topic alias, and we allow none")
        if "\0" in topic or "#" in topic or "+" in topic:
            raise _bad_topic(topic)
        if packet.qos is not _AT_LEAST_ONCE:
            return self._accept_at_most_once(packet) if packet.qos is _AT_MOST_ONCE else self._accept_once(packet)
        packet_id = packet.packet_id
        if not packet_id:
            raise violation("PUBLISH with the packet id 0")
        if self._window <= 0:
            self._note_overrun()
        self._window -= 1
        self._frontier.push(PUBACK | packet_id)
        return True

    def settle(self, first: int, end: int) -> None:
        """The messages [first, end) are settled; errors as in `AckFrontier.settle`."""
        self._acknowledge(self._frontier.settle(first, end))
        self._stats.in_flight = self._frontier.unsettled

    def release(self, packet: PubRelPacket) -> None:
        """Answers a PUBREL.

        Raises:
            ProtocolError: it cannot be for one of our PUBRECs.
        """
        packet_id = packet.packet_id
        if not packet_id:
            raise violation("PUBREL with the packet id 0")
        if self._exactly_once.owes_pubrec(packet_id):
            raise violation(f"PUBREL for the packet id {packet_id} before our PUBREC")
        known = self._exactly_once.release(packet_id)
        self._window += self._exactly_once.complete(packet_id)
        reason = PubCompReasonCode.SUCCESS if known else PubCompReasonCode.PACKET_ID_NOT_FOUND
        self._output.append(PubCompPacket(packet_id, reason_code=reason).write())

    def _accept_at_most_once(self, packet: PublishPacket) -> bool:
        if packet.duplicate:
            raise malformed("PUBLISH of QoS 0 with the DUP flag")
        if packet.topic.startswith(SYSTEM):
            self._drops.take(packet.topic, packet.payload)
            return False
        if self._frontier.unsettled >= self._receive_maximum:
            self._stats.qos0_dropped += 1
            return False
        self._frontier.push(NOTHING)
        return True

    def _accept_once(self, packet: PublishPacket) -> bool:
        packet_id = packet.packet_id
        if not packet_id:
            raise violation("PUBLISH with the packet id 0")
        if not self._exactly_once.holds_window(packet_id):
            if self._window <= 0:
                self._note_overrun()
            self._window -= 1
        if self._exactly_once.is_new(packet_id, packet.duplicate):
            self._frontier.push(PUBREC | packet_id)
            return True
        if not self._exactly_once.owes_pubrec(packet_id):
            self._frontier.repeat(PUBREC | packet_id)
            self._acknowledge(self._frontier.due())
        return False

    def _acknowledge(self, words: array[int]) -> None:
        if not words:
            return
        data = encode(words)
        count = len(data) // words.itemsize
        # A QoS 2 message holds its place in the window until PUBCOMP.
        self._window += count - self._exactly_once.acknowledge(words)
        self._output.append(data)

    def _note_overrun(self) -> None:
        """Counts a message beyond the Receive Maximum, which is taken nevertheless.

        MQTT wants us to close the connection with 0x93. Mosquitto 2.0 runs over under load, and does so again after
        every reconnect: nothing would ever be taken in. Memory is bounded all the same, see `is_overrun`.
        """
        if not self._stats.window_overruns:
            log.warning(
                "mqtt_window_overrun",
                detail="The broker has more messages unacknowledged than we allow; they are taken nevertheless.",
                receive_maximum=self._receive_maximum,
            )
        self._stats.window_overruns += 1


def _bad_topic(topic: str) -> ProtocolError:
    if "\0" in topic:
        return malformed("a topic with the character U+0000")
    return ProtocolError(DisconnectReasonCode.TOPIC_NAME_INVALID, f"a topic with a wildcard: {topic!r}")
