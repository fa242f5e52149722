"""Fixtures around the broker: one Mosquitto for the session, a topic root of its own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest

from telemetry.demo.mosquitto import LocalMosquitto
from tests.support.server import temporary_directory

MosquittoFactory = Callable[..., LocalMosquitto]
"""`mosquitto_factory(options={...})` -> a started broker of the test's own."""


@pytest.fixture(scope="session")
def mosquitto() -> Iterator[LocalMosquitto]:
    """The broker of the session; tests that stop one ask `mosquitto_factory` for their own."""
    with temporary_directory() as directory:
        broker = LocalMosquitto(directory)
        try:
            broker.start()
            yield broker
        finally:
            broker.stop()


@pytest.fixture
def mosquitto_factory() -> Iterator[MosquittoFactory]:
    """Brokers of the test's own, for tests that stop, kill or tune them."""
    with ExitStack() as stack:

        def make(options: Mapping[str, str] | None = None) -> LocalMosquitto:
            broker = LocalMosquitto(stack.enter_context(temporary_directory()), options=options)
            stack.callback(broker.stop)
            broker.start()
            return broker

        yield make


@pytest.fixture
def topic_root() -> str:
    """A topic root that no other test uses."""
    return f"test/{uuid.uuid4().hex[:12]}"
