"""The server as the command runs it: a process of its own, ended by a signal."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from telemetry.api.server import run
from telemetry.demo.mosquitto import free_port
from telemetry.errors import ConfigurationError
from telemetry.settings import Settings, load_settings
from tests.support.proxy import Proxy
from tests.support.serving import served

WAITING = """
SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
WHERE NOT l.granted AND d.datname = current_database() AND l.relation = 'devices'::regclass
"""
PATIENCE_S = 60.0
END_WITHIN_S = 8.0
"""The promise is 5 s; other tests run beside this one."""


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


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_server_ends_in_time_and_answers_while_the_database_hangs(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    async with (
        Proxy(urlsplit(settings.database.url.get_secret_value()).port or 5432) as proxy,
        served(behind(settings, proxy), port := free_port()) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client,
        connection.transaction(),
    ):
        await connection.execute("LOCK TABLE devices")
        asked = asyncio.create_task(client.get("/v1/devices"))
        while not await connection.fetchval(WAITING):
            await asyncio.sleep(0.05)
        proxy.blackhole()
        before = proxy.connections
        unconnected = asyncio.create_task(client.get("/v1/ledger?start=-1h"))
        while proxy.connections == before:
            await asyncio.sleep(0.05)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, error = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        took = time.monotonic() - began
        answers = await asyncio.gather(asked, unconnected)
    assert (process.returncode, b"Traceback" in error) == (0, False), error.decode()
    assert took < END_WITHIN_S
    assert [answer.status_code for answer in answers] == [503, 503]
    kinds = [answer.json()["type"].rpartition(":")[2] for answer in answers]
    # The one that had its connection has a second to say so before it is cancelled like the other.
    assert (kinds[0] in ("database-away", "stopping"), kinds[1]) == (True, "stopping"), kinds


def behind(settings: Settings, proxy: Proxy) -> Settings:
    """The same database, by way of the proxy."""
    parts = urlsplit(settings.database.url.get_secret_value())
    url = urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{proxy.port}"))
    return settings.model_copy(update={"database": settings.database.model_copy(update={"url": SecretStr(url)})})
