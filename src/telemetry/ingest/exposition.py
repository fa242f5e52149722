"""One page of metrics for all sessions, in this process and in others.

Each session counts into a registry of its own and knows nothing of the others. Whoever shows the page adds the label
`worker`. A child process answers its supervisor over a pipe with its page as text, which needs no port, no folder and
no agreement on which kinds of metrics there are. See docs/adr/0007.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from telemetry.errors import ConfigurationError
from telemetry.settings import Settings

_ANSWER_WITHIN_S: Final = 2.0


class Page(Collector):
    """The metrics of several sessions as one collector."""

    def __init__(self) -> None:
        self._sources: dict[str, Callable[[], Iterable[Metric]]] = {}
        self._asking = threading.Lock()

    def add(self, worker: str, registry: CollectorRegistry) -> None:
        """Shows a session of this process, with the label `worker`."""
        self._sources[worker] = lambda: _labelled(worker, registry.collect())

    def add_process(self, name: str, pipe: Connection) -> None:
        """Shows a child process; one that does not answer in time is left out. Replaces the one of that name."""
        self._sources[f"process {name}"] = lambda: _asked(pipe)

    def remove(self, worker: str) -> None:
        """Shows a session of this process no more."""
        del self._sources[worker]

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is may change."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every family once, with the samples of all."""
        with self._asking:
            families: dict[str, Metric] = {}
            for source in list(self._sources.values()):
                for each in source():
                    family = families.setdefault(each.name, Metric(each.name, each.documentation, each.type))
                    family.samples += each.samples
        yield from families.values()


@contextmanager
def shown(page: Page, settings: Settings) -> Iterator[None]:
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
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def told(page: Page, pipe: Connection) -> Iterator[None]:
    """Answers a supervisor that asks for the page, while the block runs."""
    registry = _registry(page)

    def answer() -> None:
        try:
            while True:
                pipe.recv_bytes()
                pipe.send_bytes(generate_latest(registry))
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


def _asked(pipe: Connection) -> list[Metric]:
    try:
        while pipe.poll():
            pipe.recv_bytes()  # an answer that came too late for whoever asked
        pipe.send_bytes(b"metrics")
        if not pipe.poll(_ANSWER_WITHIN_S):
            return []
        return list(text_string_to_metric_families(pipe.recv_bytes().decode()))
    except (EOFError, OSError):
        return []
