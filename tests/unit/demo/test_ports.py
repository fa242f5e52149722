"""A port that is taken is told in one sentence with the flag that moves it."""

from __future__ import annotations

import socket

import pytest

from telemetry.demo.ports import HOST, require_free
from telemetry.errors import ConfigurationError


def test_port_that_is_taken_names_the_flag() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"port {port}.*is taken.*--api-port {port + 1}"):
            require_free(port, "--api-port", "the HTTP service")


def test_port_that_is_free_passes() -> None:
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    require_free(port, "--api-port", "the HTTP service")
