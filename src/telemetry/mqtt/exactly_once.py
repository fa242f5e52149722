"""QoS 2 on the receiving side: which packet ids are taken, and until when."""

from __future__ import annotations

from collections.abc import Iterable

from telemetry.mqtt.acks import KIND, PACKET_ID, PUBREC


class ExactlyOnce:
    """Packet ids on their way: delivered → PUBREC sent → PUBREL received.

    Between PUBREC and PUBREL the message is settled, and a PUBLISH with its id is a repetition. This outlives the
    connection, for as long as the broker keeps the session; it does not outlive the process, where the store recognises
    the duplicate. Before PUBREC nothing is remembered over connections: such a message is delivered again.
    """

    def __init__(self) -> None:
        self._delivered: set[int] = set()
        self._unreleased: set[int] = set()
        self._of_this_connection: set[int] = set()

    def begin_epoch(self) -> None:
        """A new connection: what was only delivered is going to come again."""
        self._delivered.clear()
        self._of_this_connection.clear()

    def forget(self) -> None:
        """The broker has lost the session, and all packet ids with it."""
        self._unreleased.clear()

    def holds_window(self, packet_id: int) -> bool:
        """Whether the id already counts against the Receive Maximum of this connection."""
        return packet_id in self._of_this_connection

    def is_new(self, packet_id: int, duplicate: bool) -> bool:
        """Takes the id of a PUBLISH; whether its message is to be delivered.

        A repetition has DUP [MQTT-3.3.1-1]. A taken id without it is another message: of a broker that has lost our
        PUBREC in a restart from an old snapshot, or that gives away ids which are still open, as Mosquitto 2.0 does
        under load. To deliver twice does no harm, to lose does.
        """
        taken = packet_id in self._unreleased or packet_id in self._delivered
        self._of_this_connection.add(packet_id)
        if taken and duplicate:
            return False
        self._unreleased.discard(packet_id)
        self._delivered.add(packet_id)
        return True

    def acknowledge(self, words: Iterable[int]) -> int:
        """Notes the PUBRECs among these words; returns how many there are."""
        count = 0
        for word in words:
            if word & KIND == PUBREC:
                count += 1
                packet_id = word & PACKET_ID
                if packet_id in self._delivered:
                    self._delivered.remove(packet_id)
                    self._unreleased.add(packet_id)
        return count

    def owes_pubrec(self, packet_id: int) -> bool:
        """Whether a message with this id is delivered and not yet acknowledged."""
        return packet_id in self._delivered

    def release(self, packet_id: int) -> bool:
        """Takes a PUBREL; whether the id was known."""
        known = packet_id in self._unreleased
        self._unreleased.discard(packet_id)
        return known

    def complete(self, packet_id: int) -> bool:
        """Notes that the PUBCOMP is sent; whether this gives the broker room in the window."""
        held = packet_id in self._of_this_connection
        self._of_this_connection.discard(packet_id)
        return held
