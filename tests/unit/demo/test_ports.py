"""A port that is taken is told in one sentence with the flag that moves it."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from telemetry.demo.ports import HOST, require_free
from telemetry.demo.server import free_port
from telemetry.errors import ConfigurationError


def test_port_that_is_taken_names_the_flag() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"port {port}.*is taken.*--api-port {port + 1}"):
            require_free(port, "--api-port", "the HTTP service")


def test_port_that_is_free_passes() -> None:
    require_free(free_port(), "--api-port", "the HTTP service")


def test_free_port_is_offered_to_nobody_else() -> None:
    reserved = {free_port() for _ in range(50)}
    assert len(reserved) == 50
    with ExitStack() as stack:
        others = [stack.enter_context(socket.create_server((HOST, 0))).getsockname()[1] for _ in range(200)]
        assert reserved.isdisjoint(others)
    for port in reserved:
        with socket.create_server((HOST, port)):
            pass
