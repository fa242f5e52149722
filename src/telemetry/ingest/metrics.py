"""What ingest tells Prometheus. Everything is counted once for each batch, never for each message."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from telemetry.ingest.spool_metrics import SpoolMetrics
from telemetry.mqtt.stats import SessionStats
from telemetry.store.batch import Batch
from telemetry.store.copy import Counts
from telemetry.store.layout import TIME

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 10, 100, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 60_000)
_AGES = (1, 5, 15, 60, 300, 900, 3_600, 21_600, 86_400, 604_800)
_STATES = {
    "connected": ("mqtt_connected", "Whether the broker has accepted us and we are subscribed"),
    "in_flight": ("mqtt_in_flight_messages", "Messages that are delivered and not yet acknowledged"),
}
_COUNTED = {
    "messages_received": ("mqtt_messages_received", "Messages that the broker delivered, repeated ones included"),
    "bytes_received": ("mqtt_received_bytes", "Bytes that came from the broker, headers and topics included"),
    "reconnects": ("mqtt_reconnects", "Connections after the first"),
    "sessions_lost": ("mqtt_sessions_lost", "Connections at which our session was gone: messages may be missing"),
    "qos0_dropped": ("mqtt_qos0_dropped", "QoS 0 messages that were not taken because too much was unsettled"),
    "window_overruns": ("mqtt_window_overruns", "Messages that the broker sent beyond our Receive Maximum"),
    "protocol_errors": ("mqtt_protocol_errors", "Connections that ended because the broker broke MQTT 5"),
    "paused_seconds": ("mqtt_paused_seconds", "How long reading was paused for want of room behind it"),
}


CONNECTED = "telemetry_ingest_mqtt_connected"
STANDBY = "telemetry_ingest_standby"
DATABASE_AWAY = "telemetry_ingest_database_away"


def of_process() -> CollectorRegistry:
    """Memory, CPU and open files of this process, under the names that every Prometheus client gives them."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


class WorkerMetrics:
    """What a supervisor knows of one worker process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.restarts = Counter(
            "telemetry_ingest_worker_restarts",
            "Times that the process died and was started again",
            registry=self.registry,
        )


class Metrics:
    """The metrics of one session; whoever shows them adds whose they are (`exposition.py`)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.spool = SpoolMetrics(self.registry)
        self._messages = Counter(
            "telemetry_ingest_messages", "Messages that were settled and acknowledged", registry=self.registry
        )
        self._left = Counter(
            "telemetry_ingest_messages_left",
            "Messages that were acknowledged and left to the session of their domain",
            registry=self.registry,
        )
        self._readings = Counter(
            "telemetry_ingest_readings",
            "Readings by outcome, as in the ledger; received is the sum of the others but for merged, a part of stored",
            ["domain", "outcome"],
            registry=self.registry,
        )
        self._lag = Gauge(
            "telemetry_ingest_lag_seconds",
            "From receipt to commit, of the first message of the last batch",
            registry=self.registry,
        )
        self._oldest = Gauge(
            "telemetry_ingest_oldest_message_age_seconds",
            "How long ago the oldest message was received that is not acknowledged; 0 where there is none",
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
        self._age = Histogram(
            "telemetry_ingest_reading_age_seconds",
            "From the time that a reading names to its commit, of the last reading of each domain in a batch",
            buckets=_AGES,
            registry=self.registry,
        )
        self._size = Histogram(
            "telemetry_ingest_batch_messages", "Messages of a batch", buckets=_ROWS, registry=self.registry
        )
        self._states = {
            name: Gauge(f"telemetry_ingest_{metric}", text, registry=self.registry)
            for name, (metric, text) in _STATES.items()
        }
        self._counters = {
            name: Counter(f"telemetry_ingest_{metric}", text, registry=self.registry)
            for name, (metric, text) in _COUNTED.items()
        }
        self._counted = dict.fromkeys(_COUNTED, 0.0)
        self._standby = Gauge(
            STANDBY,
            "Whether another process works under this name and this one waits for its end",
            registry=self.registry,
        )
        self._database_away = Gauge(
            DATABASE_AWAY, "Whether the database did not serve us at the last attempt", registry=self.registry
        )
        self._waiting = Gauge(
            "telemetry_ingest_waiting_messages", "Messages that no batch has taken yet", registry=self.registry
        )

        self._not_kept = Counter(
            "telemetry_ingest_quarantine_not_kept",
            "Refused readings whose bytes were not kept, for their device had more than ingest.quarantine_per_device",
            ["domain"],
            registry=self.registry,
        )

        self._broker_dropped = Counter(
            "telemetry_ingest_broker_dropped_messages",
            "Messages that the broker says it dropped, for us or for others",
            registry=self.registry,
        )
        self._skewed = Gauge(
            "telemetry_ingest_skewed_clocks",
            "Devices whose clocks are off by more than so many seconds",
            ["direction", "beyond_s"],
            registry=self.registry,
        )

    def ask(self, standby: Callable[[], bool], database_away: Callable[[], bool]) -> None:
        """Whom to ask, from any thread, whenever the metrics are shown: a session may wait before it does anything."""
        self._standby.set_function(standby)
        self._database_away.set_function(database_away)

    def broker_dropped(self, messages: int) -> None:
        """The broker says that it dropped so many more."""
        self._broker_dropped.inc(messages)

    def skewed(self, counts: Iterable[tuple[str, int, int]]) -> None:
        """How many clocks are off: direction, seconds, devices."""
        for direction, beyond_s, devices in counts:
            self._skewed.labels(direction, beyond_s).set(devices)

    def not_kept(self, domain: str, readings: int) -> None:
        """Refused readings were counted and not kept."""
        self._not_kept.labels(domain).inc(readings)

    def observe(self, stats: SessionStats, waiting: int, oldest_us: int | None = None) -> None:
        """Takes over what the MQTT session counts, how many messages wait, and since when the oldest of all does."""
        for name, gauge in self._states.items():
            gauge.set(getattr(stats, name))
        for name, counter in self._counters.items():
            now: float = getattr(stats, name)
            counter.inc(now - self._counted[name])
            self._counted[name] = now
        self._waiting.set(waiting)
        self._oldest.set(0.0 if oldest_us is None else max(0.0, time.time() - oldest_us / 1e6))

    def settled(self, batch: Batch, counts: Counts, commit_s: float) -> None:
        """A batch is committed."""
        messages = batch.end - batch.first
        self._messages.inc(messages - batch.left)
        self._left.inc(batch.left)
        self._size.observe(messages)
        self._commit.observe(commit_s)
        now = time.time()
        lag = max(0.0, now - batch.received_us / 1e6)
        self._lag.set(lag)
        self._visible.observe(lag)
        for good in batch.readings.values():
            self._age.observe(max(0.0, now - good.entries[-1][TIME] / 1e6))
        for (domain, outcome), readings in counts.items():
            self._readings.labels(domain, outcome).inc(readings)
