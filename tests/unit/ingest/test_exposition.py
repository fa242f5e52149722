"""One page of metrics for several sessions and processes."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from multiprocessing import Pipe

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from structlog.testing import capture_logs

from telemetry.demo.server import free_port
from telemetry.ingest import exposition
from telemetry.ingest.exposition import Page, answer_supervisor
from telemetry.ingest.metrics import Metrics, of_process
from telemetry.mqtt.stats import SessionStats
from telemetry.settings import load_settings

RECONNECTS = "telemetry_ingest_mqtt_reconnects_total"
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers at all does so in time, however busy the machine is."""
    monkeypatch.setattr(exposition, "_ANSWER_WITHIN_S", PATIENCE_S)


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
    with answer_supervisor(page(b=2, c=3), its), answer_supervisor(page(d=4), its2):
        shown.add_process("1", mine)
        shown.add_process("2", mine2)
        assert samples(shown) == {"a": 1, "b": 2, "c": 3, "d": 4}
        shown.add_process("2", Pipe()[0])  # its other end is gone: a worker that has died
        assert samples(shown) == {"a": 1, "b": 2, "c": 3}
        for each in (mine, mine2):
            each.close()


def test_process_that_does_not_answer_in_time_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "_ANSWER_WITHIN_S", 0.1)
    shown = page(a=1)
    mine, its = Pipe()
    shown.add_process("1", mine)
    for _ in range(3):
        assert samples(shown) == {"a": 1}
    monkeypatch.setattr(exposition, "_ANSWER_WITHIN_S", PATIENCE_S)
    its.recv_bytes()
    assert not its.poll(), "it is not asked again while it owes an answer"
    its.send_bytes(b"# TYPE late counter\nlate_total 1\n")  # the answer to a question of long ago
    await_answers()
    with answer_supervisor(page(b=2), its):
        assert samples(shown, "late_total") == {}
        assert samples(shown) == {"a": 1, "b": 2}
        mine.close()


def await_answers() -> None:
    """Waits until no process owes one."""
    deadline = time.monotonic() + PATIENCE_S
    while any(thread.name.startswith("metrics of") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_processes_are_asked_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many hang, also in the middle of an answer, the page waits once for all of them, and shows the others."""
    monkeypatch.setattr(exposition, "_ANSWER_WITHIN_S", 1.0)
    waits: list[float] = []
    join = threading.Thread.join

    def noted(thread: threading.Thread, timeout: float | None = None) -> None:
        waits.append(timeout or 0.0)
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", noted)
    shown = page(a=1)
    pipes = [Pipe() for _ in range(6)]
    for number, (mine, _) in enumerate(pipes):
        shown.add_process(str(number), mine)
    os.write(pipes[0][1].fileno(), b"\0\0\1\0half of it")
    with answer_supervisor(page(b=2), pipes[-1][1]):
        deadline = time.monotonic() + PATIENCE_S
        while samples(shown) != {"a": 1, "b": 2}:
            # Where the machine is busy, an answer may be too late; it is shown the next time.
            assert time.monotonic() < deadline
            waits.clear()
        assert len(waits) == 6
        assert sum(waits[1:]) < 1.0, "only the first one was worth waiting for"
        pipes[-1][0].close()
    for _, its in pipes[:-1]:
        its.close()
    await_answers()


def test_page_that_cannot_be_made_once_is_made_the_next_time() -> None:
    """Neither a fault of a worker's page nor nonsense in its answer ends the asking."""

    class Fickle(Collector):
        times = 0

        def collect(self) -> Iterable[Metric]:
            self.times += 1
            if self.times == 1:
                raise RuntimeError("dictionary changed size during iteration")
            return [CounterMetricFamily("fine", "", value=self.times)]

    fickle = CollectorRegistry()
    fickle.register(Fickle())
    child, shown = Page(), page(a=1)
    child.add("b", fickle)
    (mine, its), (nonsense, other) = Pipe(), Pipe()
    with answer_supervisor(child, its), capture_logs() as said:
        shown.add_process("1", mine)
        shown.add_process("2", nonsense)
        other.send_bytes(b"\xff")
        assert samples(shown) == {"a": 1}
        other.close()
        assert samples(shown, "fine_total") == {"b": 2}
        mine.close()
    assert {(each["event"], each["of"]) for each in said} == {
        ("metrics_failed", "this process"),
        ("metrics_failed", "2"),
    }


def test_counters_of_a_session_count_what_came_since() -> None:
    metrics = Metrics()
    stats = SessionStats()
    for reconnects in (0, 2, 2, 5):
        stats.reconnects, stats.paused_seconds = reconnects, reconnects / 2
        metrics.observe(stats, 0)
    assert metrics.registry.get_sample_value(RECONNECTS) == 5
    assert metrics.registry.get_sample_value("telemetry_ingest_mqtt_paused_seconds_total") == 2.5


def session(*, connected: bool = True, standby: bool = False, away: bool = False) -> CollectorRegistry:
    """The metrics of a session in that state."""
    metrics = Metrics()
    metrics.observe(SessionStats(connected=connected), 0)
    metrics.ask(standby=lambda: standby, database_away=lambda: away)
    return metrics.registry


def test_page_is_ready_when_every_session_takes_in_or_stands_by() -> None:
    made = Page()
    made.add("1", of_process())
    assert made.unready() == ["this process has no session yet, or does not answer"]
    made.add("a", session())
    made.add("b", session(connected=False, standby=True))
    assert made.unready() == []
    made.add("c", session(connected=False))
    made.add("d", session(away=True))
    assert made.unready() == ["c is not subscribed at the broker", "the database does not serve d"]


def test_page_of_a_supervisor_is_ready_when_all_workers_are() -> None:
    supervisor, worker = Page(), Page()
    supervisor.add("supervisor", of_process())
    worker.add("2", of_process())
    (mine, its), (mine2, its2) = Pipe(), Pipe()
    supervisor.add_process("1", mine)
    supervisor.add_process("2", mine2)
    with answer_supervisor(page(a=0), its), answer_supervisor(worker, its2):
        assert supervisor.unready() == ["worker 2 has no session yet, or does not answer"]
        worker.add("b", session())
        assert supervisor.unready() == []
        assert set(samples(supervisor, "process_resident_memory_bytes")) == {"supervisor", "2"}
        worker.add("b", session(connected=False))
        assert supervisor.unready() == ["b is not subscribed at the broker"]
        for each in (mine, mine2):
            each.close()


def answered(port: int, path: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_port_of_the_metrics_has_three_paths_and_no_others() -> None:
    port = free_port()
    made = page(a=3)
    with exposition.serve_page(made, load_settings(overrides={"ingest.metrics_port": port})):
        status, text = answered(port, "/metrics")
        assert (status, f'{RECONNECTS}{{worker="a"}} 3.0' in text) == (200, True)
        assert answered(port, "/livez") == (200, '{"status": "ok"}')
        assert answered(port, "/readyz") == (200, '{"status": "ready"}')
        made.add("b", session(connected=False))
        status, text = answered(port, "/readyz")
        assert (status, json.loads(text)["detail"]) == (503, "b is not subscribed at the broker")
        for path in ("/", "/nonsense", "/metrics/more", "/Metrics"):
            status, text = answered(port, path)
            assert (status, json.loads(text)["detail"]) == (404, "there are /metrics, /livez and /readyz")
