"""What ingest tells Prometheus. Everything is counted once for each batch, never for each message."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from telemetry.ingest.spool_metrics import SpoolMetrics
from telemetry.mqtt.stats import SessionStats
from telemetry.store.batch import Batch
from telemetry.store.copy import Counts

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 10, 100, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 60_000)
_SESSION = {
    "connected": ("mqtt_connected", "Whether the broker has accepted us and we are subscribed"),
    "in_flight": ("mqtt_in_flight_messages", "Messages that are delivered and not yet acknowledged"),
    "reconnects": ("mqtt_reconnects", "Connections after the first, since the process began"),
    "sessions_lost": (
        "mqtt_sessions_lost",
        "Connections at which our session was gone: messages may be missing",
    ),
    "qos0_dropped": ("mqtt_qos0_dropped", "QoS 0 messages that were not taken because too much was unsettled"),
    "window_overruns": ("mqtt_window_overruns", "Messages that the broker sent beyond our Receive Maximum"),
    "protocol_errors": ("mqtt_protocol_errors", "Connections that ended because the broker broke MQTT 5"),
    "paused_seconds": ("mqtt_paused_seconds", "How long reading was paused for want of room behind it"),
}


class Metrics:
    """The metrics of one process of ingest."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.spool = SpoolMetrics(self.registry)
        self._messages = Counter(
            "telemetry_ingest_messages", "Messages that were settled and acknowledged", registry=self.registry
        )
        self._readings = Counter(
            "telemetry_ingest_readings",
            "Readings by outcome, as in the ledger: received, stored, merged, duplicate, or a quarantine reason",
            ["domain", "outcome"],
            registry=self.registry,
        )
        self._lag = Gauge(
            "telemetry_ingest_lag_seconds",
            "From receipt to commit, of the first message of the last batch",
            registry=self.registry,
        )
        self._visible = Histogram(
            "telemetry_ingest_visible_seconds",
            "From receipt to commit, of the first message of each batch",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._commit = Histogram(
            "telemetry_ingest_commit_seconds",
            "How long the database took to settle a batch",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._size = Histogram(
            "telemetry_ingest_batch_messages", "Messages of a batch", buckets=_ROWS, registry=self.registry
        )
        self._session = {
            name: Gauge(f"telemetry_ingest_{metric}", text, registry=self.registry)
            for name, (metric, text) in _SESSION.items()
        }
        self._waiting = Gauge(
            "telemetry_ingest_waiting_messages", "Messages that no batch has taken yet", registry=self.registry
        )

    def observe(self, stats: SessionStats, waiting: int) -> None:
        """Takes over what the MQTT session counts."""
        for name, gauge in self._session.items():
            gauge.set(getattr(stats, name))
        self._waiting.set(waiting)

    def settled(self, batch: Batch, counts: Counts, commit_s: float) -> None:
        """A batch is committed."""
        messages = batch.end - batch.first
        self._messages.inc(messages)
        self._size.observe(messages)
        self._commit.observe(commit_s)
        lag = max(0.0, time.time() - batch.received_us / 1e6)
        self._lag.set(lag)
        self._visible.observe(lag)
        for (domain, outcome), readings in counts.items():
            self._readings.labels(domain, outcome).inc(readings)
