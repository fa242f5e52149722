"""What the spool tells Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class SpoolMetrics:
    """How much waits in the spool, and how much went through it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._spooling = Gauge(
            "telemetry_ingest_spooling", "Whether messages go to the spool and not to the database", registry=registry
        )
        self._messages = Gauge(
            "telemetry_ingest_spool_messages",
            "Messages that are acknowledged and wait in the spool for the database",
            registry=registry,
        )
        self._bytes = Gauge(
            "telemetry_ingest_spool_bytes",
            "Bytes of the spool that are in use; the limit is spool.quota",
            registry=registry,
        )
        self._full = Gauge(
            "telemetry_ingest_spool_full", "Whether the spool has no room, so that reading is paused", registry=registry
        )
        self._spooled = Counter(
            "telemetry_ingest_spooled_messages", "Messages that were acknowledged from the spool", registry=registry
        )

    def spooling(self, spooling: bool) -> None:
        """Messages begin to go to the spool, or end to."""
        self._spooling.set(spooling)

    def holds(self, messages: float, size: float) -> None:
        """So many messages wait in so many bytes; NaN where that is not known."""
        self._messages.set(messages)
        self._bytes.set(size)

    def full(self, full: bool) -> None:
        """The spool has no room, or has some again."""
        self._full.set(full)

    def spooled(self, messages: int) -> None:
        """So many messages more are in the spool."""
        self._spooled.inc(messages)
