"""One page of metrics for several sessions and processes."""

from __future__ import annotations

from multiprocessing import Pipe

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from telemetry.ingest import exposition
from telemetry.ingest.exposition import Page, told
from telemetry.ingest.metrics import Metrics
from telemetry.mqtt.stats import SessionStats

RECONNECTS = "telemetry_ingest_mqtt_reconnects_total"


def page(**reconnects: int) -> Page:
    """The page of sessions that have reconnected so often."""
    made = Page()
    for worker, times in reconnects.items():
        metrics = Metrics()
        metrics.observe(SessionStats(reconnects=times, connected=True), 0)
        made.add(worker, metrics.registry)
    return made


def samples(shown: Page, name: str = RECONNECTS) -> dict[str, float]:
    """Values by worker, as whoever reads the text sees them; each family must be there once."""
    registry = CollectorRegistry()
    registry.register(shown)
    text = generate_latest(registry).decode()
    assert text.count(f"# TYPE {name} ") <= 1
    families = text_string_to_metric_families(text)
    return {each.labels["worker"]: each.value for family in families for each in family.samples if each.name == name}


def test_page_shows_every_session_under_its_name() -> None:
    assert samples(page(a=1, b=2)) == {"a": 1, "b": 2}
    assert samples(page(a=1, b=2), "telemetry_ingest_mqtt_connected") == {"a": 1, "b": 1}


def test_page_of_other_processes_is_one_page() -> None:
    shown = page(a=1)
    (mine, its), (mine2, its2) = Pipe(), Pipe()
    with told(page(b=2, c=3), its), told(page(d=4), its2):
        shown.add_process("1", mine)
        shown.add_process("2", mine2)
        assert samples(shown) == {"a": 1, "b": 2, "c": 3, "d": 4}
        shown.add_process("2", Pipe()[0])  # its other end is gone: a worker that has died
        assert samples(shown) == {"a": 1, "b": 2, "c": 3}
        for each in (mine, mine2):
            each.close()


def test_process_that_does_not_answer_in_time_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "_ANSWER_WITHIN_S", 0.05)
    shown = page(a=1)
    mine, its = Pipe()
    shown.add_process("1", mine)
    assert samples(shown) == {"a": 1}
    its.recv_bytes()
    its.send_bytes(b"# TYPE late counter\nlate_total 1\n")  # the answer to a question of long ago
    assert samples(shown) == {"a": 1}
    assert samples(shown, "late_total") == {}


def test_counters_of_a_session_count_what_came_since() -> None:
    metrics = Metrics()
    stats = SessionStats()
    for reconnects in (0, 2, 2, 5):
        stats.reconnects, stats.paused_seconds = reconnects, reconnects / 2
        metrics.observe(stats, 0)
    assert metrics.registry.get_sample_value(RECONNECTS) == 5
    assert metrics.registry.get_sample_value("telemetry_ingest_mqtt_paused_seconds_total") == 2.5
