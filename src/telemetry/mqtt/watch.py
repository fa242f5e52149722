"""Asking for the broker's counters: by a second SUBSCRIBE, so that nothing else depends on the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog
from mqtt5 import SubAckReasonCode

from telemetry.mqtt.faults import unwatched
from telemetry.mqtt.opening import watch_packet

log = structlog.get_logger()

ATTEMPTS: Final = 2
"""Connections in succession that may end before the answer. A broker that leaves whoever asks is not asked again."""


class Watch:
    """Asks after each connection.

    Args:
        counters: topic filters of what the broker says that it dropped; none asks for nothing.
        address: of the broker, for the log.

    Attributes:
        pending: whether the answer is awaited.
    """

    def __init__(self, counters: Sequence[str], address: str) -> None:
        self.pending = False
        self._counters = tuple(counters)
        self._address = address
        self._packet = watch_packet(self._counters).write() if counters else b""
        self._in_vain = 0
        self._told = False

    def ask(self) -> bytes:
        """The packet to send now, if any."""
        if self._in_vain >= ATTEMPTS:
            return b""
        self.pending = bool(self._packet)
        return self._packet

    def answered(self, codes: Sequence[SubAckReasonCode]) -> None:
        """The SUBACK came; a refusal is said once, and is no error.

        Raises:
            ProtocolError: it does not answer our SUBSCRIBE.
        """
        self.pending = False
        self._in_vain = 0
        self._tell(unwatched(codes, self._counters))

    def connection_lost(self) -> None:
        """The connection is gone, perhaps for our question."""
        if self.pending:
            self.pending = False
            self._in_vain += 1
            if self._in_vain >= ATTEMPTS:
                self._tell(self._counters)

    def _tell(self, unseen: Sequence[str]) -> None:
        if unseen and not self._told:
            self._told = True
            log.info(
                "mqtt_counters_refused",
                detail="The broker does not show us these counters of what it drops; see mqtt.dropped_counters.",
                broker=self._address,
                counters=list(unseen),
            )
