"""The HTTP service as the command runs it: a process of its own, on a port of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from telemetry.settings import Settings

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
