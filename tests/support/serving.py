"""The HTTP service on a port: as the command runs it, in a process of its own, or in the test's own event loop."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import httpx
import uvicorn
from starlette.types import ASGIApp

from telemetry.demo.ports import HOST
from telemetry.settings import Settings

PATIENCE_S = 60.0

PROGRAM = """
import uvloop
from telemetry.api.server import run
from telemetry.settings import load_settings
uvloop.run(run(load_settings()))
"""


@asynccontextmanager
async def served(settings: Settings, port: int, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that answers on that port; `variables` are further settings (`API__MAX_VALUES="5"`)."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM),
        env={
            "TELEMETRY_DATABASE__URL": settings.database.url.get_secret_value(),
            "TELEMETRY_API__PORT": str(port),
            **{f"TELEMETRY_{name}": value for name, value in variables.items()},
        },
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await _ready(process, f"http://{HOST}:{port}/readyz")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _ready(process: asyncio.subprocess.Process, url: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        while True:
            try:
                assert (await client.get(url)).status_code == 200
                return
            except httpx.ConnectError:
                assert process.returncode is None, (await process.communicate())[1].decode()
                assert time.monotonic() < deadline, f"nothing answers at {url}"
            await asyncio.sleep(0.05)


@asynccontextmanager
async def serving(app: ASGIApp, lifespan: Literal["on", "off"] = "off") -> AsyncIterator[str]:
    """The address of an application that answers in this event loop; it has ended after the block."""
    config = uvicorn.Config(app, lifespan=lifespan, log_config=None, ws="none")
    server = uvicorn.Server(config)
    with socket.create_server((HOST, 0)) as listener:
        running = asyncio.create_task(server.serve([listener]))
        try:
            while not server.started:
                assert not running.done(), "the application did not start"
                await asyncio.sleep(0.01)
            yield f"http://{HOST}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running
