"""Messages of QoS 0 that were dropped for want of room: nobody sends them again, so the log tells of each burst."""

from __future__ import annotations

from typing import Final

import structlog

log = structlog.get_logger()

QUIET_S: Final = 5.0
"""A burst is over when nothing was dropped for so long …"""
LONGEST_S: Final = 60.0
"""… and told in pieces where it lasts longer than this."""


class Dropped:
    """What one session drops; `now` is always monotonic seconds."""

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._seen = 0
        self._told = 0
        self._began = 0.0
        self._grew = 0.0

    def note(self, total: int, now: float) -> None:
        """So many were dropped since the session began; says so at the end of a burst."""
        if total != self._seen:
            if self._seen == self._told:
                self._began = now
            self._seen, self._grew = total, now
        if now - self._grew >= QUIET_S or now - self._began >= LONGEST_S:
            self.tell()

    def tell(self) -> None:
        """Says what was not told yet."""
        if self._seen > self._told:
            log.warning(
                "mqtt_qos0_dropped",
                detail="Messages of QoS 0 were lost, for as many as mqtt.receive_maximum were unsettled already. "
                "With QoS 1 the broker would have held them.",
                client_id=self._client_id,
                messages=self._seen - self._told,
            )
            self._told, self._began = self._seen, self._grew
