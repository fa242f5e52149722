"""The server as the command runs it: a process of its own, ended by a signal."""

from __future__ import annotations

import asyncio
import signal
import socket

import pytest

from telemetry.api.server import run
from telemetry.demo.mosquitto import free_port
from telemetry.errors import ConfigurationError
from telemetry.settings import Settings, load_settings
from tests.support.serving import served


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_server_ends_with_code_0_on_a_signal(settings: Settings, number: signal.Signals) -> None:
    async with served(settings, port := free_port()) as process:
        process.send_signal(number)
        _, error = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, b"Traceback" in error) == (0, False), error
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.asyncio
async def test_server_on_a_busy_port_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port}: .*api\.port"):
            await run(load_settings(overrides={"api.port": port}))


@pytest.mark.asyncio
async def test_server_with_an_impossible_database_url_does_not_start() -> None:
    with pytest.raises(ConfigurationError, match=r"database\.url"):
        await run(load_settings(overrides={"api.port": free_port(), "database.url": "mysql://localhost/telemetry"}))
