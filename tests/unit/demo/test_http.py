"""Reading a Prometheus text."""

from __future__ import annotations

import asyncio

import pytest

from telemetry.demo.http import get, metric

TEXT = """\
# HELP messages_total Messages
# TYPE messages_total counter
messages_total{domain="waste"} 3.0
messages_total{domain="energy"} 4.0
lag_seconds 0.25
"""


@pytest.mark.parametrize(("name", "value"), [("messages_total", 7.0), ("lag_seconds", 0.25), ("messages", None)])
def test_metric_is_the_sum_over_its_labels(name: str, value: float | None) -> None:
    assert metric(TEXT, name) == value


@pytest.mark.asyncio
async def test_get_where_nobody_listens_is_none() -> None:
    assert await get("http://127.0.0.1:9/", within_s=1) is None


@pytest.mark.asyncio
async def test_get_from_a_server_that_dies_amid_its_answer_is_none() -> None:
    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nlag_sec")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(begin, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await get(f"http://127.0.0.1:{port}/") is None
