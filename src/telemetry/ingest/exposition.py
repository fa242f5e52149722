"""One page of metrics for all sessions, in this process and in others.

Each session counts into a registry of its own and knows nothing of the others. Whoever shows the page adds the label
`worker`. A child process answers its supervisor over a pipe with its page as text, which needs no port, no folder and
no agreement on which kinds of metrics there are. All are asked at the same time, so one that hangs costs the page two
seconds, whatever their number. See docs/adr/0007.

Beside `/metrics` there are `/livez` and `/readyz`, which is made of the same page: what hangs or has not begun is not
ready.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from telemetry.errors import ConfigurationError
from telemetry.ingest.metrics import CONNECTED, DATABASE_AWAY, STANDBY
from telemetry.settings import Settings
from telemetry.store.failures import in_words

log = structlog.get_logger()

_ANSWER_WITHIN_S: Final = 2.0


class Page(Collector):
    """The metrics of several sessions as one collector."""

    def __init__(self) -> None:
        self._sources: dict[str, Callable[[], Iterable[Metric]]] = {}
        self._children: dict[str, _Child] = {}
        self._asking = threading.Lock()

    def add(self, worker: str, registry: CollectorRegistry) -> None:
        """Shows a session of this process, with the label `worker`."""
        self._sources[worker] = lambda: _labelled(worker, registry.collect())

    def add_process(self, name: str, pipe: Connection) -> None:
        """Shows a child process; one that does not answer in time is left out. Replaces the one of that name."""
        self._children[name] = _Child(name, pipe)

    def remove(self, worker: str) -> None:
        """Shows a session of this process no more."""
        del self._sources[worker]

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is may change."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every family once, with the samples of all."""
        families: dict[str, Metric] = {}
        for each in (family for _, page in self._pages() for family in page):
            family = families.setdefault(each.name, Metric(each.name, each.documentation, each.type))
            family.samples += each.samples
        yield from families.values()

    def unready(self) -> list[str]:
        """What keeps sessions from taking messages in, one sentence each; a standby is ready to."""
        pages = self._pages()
        # A supervisor has no session of its own.
        return [fault for name, page in (pages[1:] or pages) for fault in _unready(name, page)]

    def _pages(self) -> list[tuple[str, list[Metric]]]:
        """What this process has to show, and then what each child has."""
        with self._asking:
            children = list(self._children.items())
            for _, child in children:
                child.ask()
            pages = [("this process", [family for source in list(self._sources.values()) for family in source()])]
            deadline = time.monotonic() + _ANSWER_WITHIN_S
            return pages + [(f"worker {name}", child.answer(deadline)) for name, child in children]


class _Child:
    """A process that answers over a pipe, asked in a thread: whatever it does, it holds up nobody else."""

    def __init__(self, name: str, pipe: Connection) -> None:
        self._name = name
        self._pipe = pipe
        self._thread: threading.Thread | None = None
        self._families: list[Metric] = []

    def ask(self) -> None:
        """Asks for its page; not again while it owes an answer, which comes too late for whoever asked."""
        if self._thread is None or not self._thread.is_alive():
            self._families = []
            self._thread = threading.Thread(target=self._ask, name=f"metrics of {self._name}", daemon=True)
            self._thread.start()

    def answer(self, deadline: float) -> list[Metric]:
        """Its page, or nothing where it has not answered by then."""
        assert self._thread is not None
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return [] if self._thread.is_alive() else self._families

    def _ask(self) -> None:
        try:
            self._pipe.send_bytes(b"metrics")
            self._families = list(text_string_to_metric_families(self._pipe.recv_bytes().decode()))
        except (EOFError, OSError):
            return  # it has died; its supervisor knows
        except Exception as error:
            _failed(error, self._name)


@contextmanager
def serve_page(page: Page, settings: Settings) -> Iterator[None]:
    """Serves the page where the settings say so, while the block runs.

    Raises:
        ConfigurationError: the address is not free.
    """
    host, port = settings.ingest.metrics_host, settings.ingest.metrics_port
    if port == 0:
        yield
        return
    try:
        server, thread = start_http_server(port, host, _registry(page))
    except OSError as error:
        raise ConfigurationError(
            f"the metrics of ingest cannot be shown on {host}:{port}: {error.strerror}; "
            "choose another ingest.metrics_port, or 0 for none"
        ) from error
    metrics = server.get_app()
    assert metrics is not None
    server.set_app(_routed(metrics, page))
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _routed(metrics: WSGIApplication, page: Page) -> WSGIApplication:
    """The paths that there are."""

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return metrics(environ, start)
        body: dict[str, object]
        if path == "/livez":
            status, body = "200 OK", {"status": "ok"}
        elif path == "/readyz":
            faults = page.unready()
            status = "503 Service Unavailable" if faults else "200 OK"
            body = {"status": "not ready", "detail": "; ".join(faults)} if faults else {"status": "ready"}
        else:
            status = "404 Not Found"
            body = {"status": "not found", "detail": "there are /metrics, /livez and /readyz"}
        start(status, [("Content-Type", "application/json")])
        return [json.dumps(body, ensure_ascii=False).encode()]

    return answer


def _unready(name: str, page: Iterable[Metric]) -> list[str]:
    sessions: dict[str, dict[str, float]] = {}
    for sample in (sample for family in page for sample in family.samples):
        if sample.name in (CONNECTED, STANDBY, DATABASE_AWAY):
            sessions.setdefault(sample.labels["worker"], {})[sample.name] = sample.value
    if not sessions:
        return [f"{name} has no session yet, or does not answer"]
    faults = []
    for session, values in sessions.items():
        if values[STANDBY]:
            continue
        if not values[CONNECTED]:
            faults.append(f"{session} is not subscribed at the broker")
        if values[DATABASE_AWAY]:
            faults.append(f"the database does not serve {session}")
    return faults


@contextmanager
def answer_supervisor(page: Page, pipe: Connection) -> Iterator[None]:
    """Answers a supervisor that asks for the page, while the block runs."""
    registry = _registry(page)

    def answer() -> None:
        try:
            while True:
                pipe.recv_bytes()
                pipe.send_bytes(_text(registry))
        except (EOFError, OSError):
            return  # the supervisor is gone, and the kernel ends us as well

    threading.Thread(target=answer, name="metrics", daemon=True).start()
    yield


def _registry(page: Page) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(page)
    return registry


def _labelled(worker: str, families: Iterable[Metric]) -> Iterator[Metric]:
    for family in families:
        labelled = Metric(family.name, family.documentation, family.type)
        labelled.samples = [each._replace(labels={"worker": worker, **each.labels}) for each in family.samples]
        yield labelled


def _text(registry: CollectorRegistry) -> bytes:
    """The page; an empty one where it cannot be made this time, for who is not answered asks no more."""
    try:
        return generate_latest(registry)
    except Exception as error:
        _failed(error, "this process")
        return b""


def _failed(error: Exception, whose: str) -> None:
    log.error("metrics_failed", detail="Metrics are missing this time.", of=whose, error=in_words(error))
