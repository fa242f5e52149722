"""The server as the command runs it: a process of its own, ended by a signal."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from telemetry.api.server import run
from telemetry.demo.mosquitto import free_port
from telemetry.errors import ConfigurationError
from telemetry.settings import Settings, load_settings

PROGRAM = """
import uvloop
from telemetry.api.server import run
from telemetry.settings import load_settings
uvloop.run(run(load_settings()))
"""


@asynccontextmanager
async def served(settings: Settings, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that answers on that port."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM),
        env={
            "TELEMETRY_DATABASE__URL": settings.database.url.get_secret_value(),
            "TELEMETRY_API__PORT": str(port),
        },
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with httpx.AsyncClient() as client:
            for _ in range(200):
                try:
                    assert (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_server_ends_with_code_0_on_a_signal(settings: Settings, number: signal.Signals) -> None:
    async with served(settings, port := free_port()) as process:
        process.send_signal(number)
        _, error = await asyncio.wait_for(process.communicate(), 10)
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
    settings = load_settings(overrides={"api.port": free_port(), "database.url": "mysql://localhost/telemetry"})
    with pytest.raises(ConfigurationError, match=r"database\.url"):
        await run(settings)
