"""What the broker is asked for after each CONNACK, in this order: our filters, the end of former ones, its counters.

The rest is asked for when the first is granted, so that nothing we are here for depends on its answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from mqtt5 import QoS, SubAckPacket, UnsubAckPacket, UnsubAckReasonCode

from telemetry.errors import ConfigurationError
from telemetry.mqtt.faults import unsubscribed, violation
from telemetry.mqtt.opening import SUBSCRIBE_ID, UNSUBSCRIBE_ID, WATCH_ID, subscribe_packet, unsubscribe_packet
from telemetry.mqtt.stats import SessionStats
from telemetry.mqtt.watch import Watch
from telemetry.settings import MqttSettings

log = structlog.get_logger()


class Subscriptions:
    """Asks, and judges the answers.

    Args:
        filters: topic filters to subscribe to; the broker must grant each. None only takes what it holds.
        counters: topic filters of what the broker says that it dropped; it may refuse them.
        stale: topic filters of former times, to be ended.
        stats: where it is noted that the broker has confirmed all this.
    """

    def __init__(
        self,
        settings: MqttSettings,
        filters: Sequence[str],
        counters: Sequence[str],
        stale: Sequence[str],
        stats: SessionStats,
    ) -> None:
        self._address = f"{settings.host}:{settings.port}"
        self._client_id = settings.client_id
        self._filters = tuple(filters)
        self._qos = settings.qos
        self._subscribe = subscribe_packet(self._filters, QoS(settings.qos)).write() if self._filters else b""
        self._unsubscribe = unsubscribe_packet(stale).write() if stale else b""
        self._watch = Watch(counters, self._address)
        self._stats = stats

    @property
    def awaits_counters(self) -> bool:
        """Whether the broker has not answered yet if it shows its counters."""
        return self._watch.pending

    def ask(self, max_packet_size: int | None) -> bytes:
        """The SUBSCRIBE for our filters; nothing where we have none.

        Raises:
            ConfigurationError: the broker takes no packet of that size.
        """
        if max_packet_size is not None and len(self._subscribe) > max_packet_size:
            raise ConfigurationError(
                f"the broker at {self._address} takes packets of {max_packet_size} bytes, and our "
                f"subscription has {len(self._subscribe)}; raise its limit"
            )
        return self._subscribe

    def ask_rest(self) -> list[bytes]:
        """What follows once our filters are granted."""
        if not self._unsubscribe:
            self._stats.arranged = True
        return [packet for packet in (self._unsubscribe, self._watch.ask()) if packet]

    def granted(self, packet: SubAckPacket, subscribing: bool) -> bool:
        """Whether a SUBACK grants our filters; otherwise it is about the counters.

        Raises:
            TelemetryError: it refuses one of them, or answers nothing that was asked.
        """
        if self._watch.pending and packet.packet_id == WATCH_ID:
            self._watch.answered(packet.reason_codes)
            return False
        if not subscribing or packet.packet_id != SUBSCRIBE_ID:
            raise violation(f"SUBACK for {packet.packet_id}, and no SUBSCRIBE of ours waits for it")
        if fault := unsubscribed(packet.reason_codes, self._filters, self._address):
            raise fault
        if any(code.value < self._qos for code in packet.reason_codes):
            log.warning(
                "mqtt_qos_reduced",
                detail="The broker grants us QoS 1 and not the QoS 2 of mqtt.qos.",
                broker=self._address,
                client_id=self._client_id,
            )
        return True

    def ended(self, packet: UnsubAckPacket, ready: bool) -> None:
        """The broker's answer to the end of former subscriptions.

        Raises:
            ProtocolError: there was no question.
        """
        if not ready or not self._unsubscribe or packet.packet_id != UNSUBSCRIBE_ID:
            raise violation(f"UNSUBACK for {packet.packet_id}, and no UNSUBSCRIBE of ours waits for it")
        failed = UnsubAckReasonCode.UNSPECIFIED_ERROR.value
        self._stats.arranged = all(code.value < failed for code in packet.reason_codes)
        if not self._stats.arranged:
            log.warning(
                "mqtt_unsubscribe_refused",
                detail="The broker goes on with subscriptions that we no longer want: messages come twice.",
                broker=self._address,
                client_id=self._client_id,
            )

    def connection_lost(self) -> None:
        """The connection is gone, and with it whatever was asked."""
        self._watch.connection_lost()
