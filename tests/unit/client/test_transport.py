"""Connections that fail, libraries that are missing, and what the client brings in."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from telemetry.client import (
    AnswerTimeout,
    AsyncClient,
    Client,
    InvalidArgument,
    MissingLibrary,
    NoAnswer,
    Retry,
    TooManyQuestions,
    series,
)
from telemetry.client.frames import library
from telemetry.demo.mosquitto import free_port

BEGINNING = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbuck\r\n"


@asynccontextmanager
async def answering(content: bytes) -> AsyncIterator[tuple[str, list[str]]]:
    """Something that answers with these bytes and hangs up, or says nothing: its address, and what it heard."""
    heard: list[str] = []
    ended: list[asyncio.Event] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(end := asyncio.Event())
        # A client without patience may be gone before it has said anything.
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            heard.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
            writer.write(content)
            if not content:
                await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        end.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heard
        await asyncio.gather(*(each.wait() for each in ended))


@pytest.mark.asyncio
async def test_answer_that_breaks_off_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    path.write_text("the last one")
    question = series("lighting", "power_w")
    async with answering(BEGINNING) as (url, _), AsyncClient(url) as client:
        with pytest.raises(NoAnswer, match=r"v1/lighting/series: .*incomplete chunked read"):
            await client.download(question, path)
        with pytest.raises(NoAnswer):
            await client.ask(question)
        with Client(url) as blocking, pytest.raises(NoAnswer):
            await asyncio.to_thread(blocking.download, question, path)
    assert (path.read_text(), [*tmp_path.iterdir()]) == ("the last one", [path])


@pytest.mark.asyncio
async def test_downloads_to_one_path_at_a_time_are_each_whole(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    question = series("lighting", "power_w")
    begun, released = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        body = b"long\n" * 40_000 if b"slow" in asked else b"short\n"
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        writer.write(body[: len(body) // 2])
        await writer.drain()
        if b"slow" in asked:
            begun.set()
            await released.wait()
        writer.write(body[len(body) // 2 :])
        writer.close()

    async with (
        await asyncio.start_server(answer, "127.0.0.1", port := free_port()),
        AsyncClient(f"http://127.0.0.1:{port}/slow") as slow,
        AsyncClient(f"http://127.0.0.1:{port}") as quick,
    ):
        running = asyncio.create_task(slow.download(question, path))
        await begun.wait()
        while not any(part.stat().st_size for part in tmp_path.iterdir()):
            await asyncio.sleep(0.01)
        first = await quick.download(question, path)
        assert (first.size, path.read_bytes()) == (6, b"short\n")
        released.set()
        assert ((await running).size, path.read_bytes()) == (200_000, b"long\n" * 40_000)
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.asyncio
async def test_downloaded_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (ordinary := tmp_path / "ordinary").touch()
    name = "n" * 251 + ".csv"  # as long as a name may be
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx") as (url, _), AsyncClient(url) as client:
        done = await client.download(series("lighting", "power_w"), tmp_path / name)
    assert done.path.stat().st_mode == ordinary.stat().st_mode


@pytest.mark.asyncio
async def test_download_that_is_cancelled_leaves_no_file(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(BEGINNING)
        begun.set()
        await reader.read()
        writer.close()

    async with (
        await asyncio.start_server(answer, "127.0.0.1", port := free_port()),
        AsyncClient(f"http://127.0.0.1:{port}") as client,
    ):
        running = asyncio.create_task(client.download(series("lighting", "power_w"), tmp_path / "power.csv"))
        await begun.wait()
        assert [*tmp_path.iterdir()]
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert not [*tmp_path.iterdir()]


def test_download_into_what_is_no_folder_is_the_error_of_the_system(tmp_path: Path) -> None:
    (taken := tmp_path / "folder.csv").mkdir()
    with Client(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(FileNotFoundError):
            client.download(series("lighting", "power_w"), tmp_path / "nowhere" / "power.csv")
        with pytest.raises(NoAnswer):
            client.download(series("lighting", "power_w"), taken)
    assert [*tmp_path.iterdir()] == [taken]


@pytest.mark.asyncio
async def test_service_that_is_away_or_silent_is_an_error() -> None:
    with Client(f"http://127.0.0.1:{free_port()}/") as client, pytest.raises(NoAnswer, match="domains: "):
        client.domains()
    async with answering(b"") as (url, _):
        async with AsyncClient(url, timeout=0.05) as awaiting:
            with pytest.raises(AnswerTimeout, match=r"nothing came in time .*see `timeout`"):
                await awaiting.version()
        with Client(url, timeout=0.05) as client, pytest.raises(AnswerTimeout):
            await asyncio.to_thread(client.version)


@pytest.mark.asyncio
async def test_both_clients_pause_before_they_ask_again() -> None:
    body = b'{"type": "urn:telemetry:problem:too-many-questions"}'
    head = (
        b"HTTP/1.1 429 No\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\nContent-Length: %d\r\n\r\n%b"
    )
    retry = Retry(within_s=1.5)
    async with answering(head % (len(body), body)) as (url, heard):
        with Client(url, retry=retry) as blocking:
            async with AsyncClient(url, retry=retry) as awaiting:
                begun = time.monotonic()
                for asked in (asyncio.to_thread(blocking.version), awaiting.version()):
                    with pytest.raises(TooManyQuestions):
                        await asked
    assert len(heard) == 4
    assert time.monotonic() - begun >= 2


@pytest.mark.asyncio
async def test_service_below_a_path_is_asked_there_with_the_headers() -> None:
    body = b'{"data": {"name": "urban-telemetry", "version": "9"}}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    headers = {"Authorization": "Bearer x"}
    async with answering(answer) as (url, heard), AsyncClient(f"{url}/city", headers=headers) as client:
        await client.version()
    assert heard[0].startswith("get /city/version http/1.1")
    assert "authorization: bearer x" in heard[0]
    assert "user-agent: urban-telemetry/" in heard[0]


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://city", "", "http://", "http://[::1", None])
@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_address_that_is_none_of_http_is_refused(client: type[Client | AsyncClient], url: str) -> None:
    with pytest.raises(InvalidArgument, match=r"url: .*allowed: http://host:port"):
        client(url)


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"timeout": -1}, "timeout: -1 is not allowed; allowed: seconds"),
        ({"concurrency": 0}, "concurrency: 0 is not allowed; allowed: 1 or more"),
        ({"timeout": 0}, "timeout: 0 is not allowed"),
        ({"timeout": math.nan}, "timeout: nan is not allowed"),
        ({"timeout": math.inf}, "timeout: inf is not allowed.*None for no end"),
        ({"headers": {"X-Who": "é€"}}, "headers: .*allowed: text of ASCII"),
        ({"headers": {"X-Who": None}}, "headers: .*allowed: text of ASCII"),
    ],
)
def test_option_that_cannot_be_is_refused_by_name(
    client: type[Client | AsyncClient], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        client("http://localhost:8000", **options)


@pytest.mark.parametrize("name", ["power.xlsx", "power"])
def test_file_whose_name_tells_no_format_is_refused(tmp_path: Path, name: str) -> None:
    with Client("http://localhost") as client, pytest.raises(InvalidArgument, match=f"format: the ending of '{name}'"):
        client.download(series("lighting", "power_w"), tmp_path / name)


def test_missing_library_names_the_extra() -> None:
    with pytest.raises(
        MissingLibrary, match=r"nothing_here is not installed.* pip install 'urban-telemetry\[polars\]'"
    ):
        library("nothing_here", "polars")
    with pytest.raises(ImportError, match="pip install 'urban-telemetry'"):
        library("nothing_here")


def test_client_brings_in_neither_the_service_nor_a_library_of_tables() -> None:
    program = """
import sys
import telemetry.client
heavy = {"asyncpg", "fastapi", "mqtt5", "numpy", "pandas", "polars", "pyarrow", "structlog", "telemetry.settings"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
for name in [name for name in sys.modules if name.split(".")[0] in ("httpx", "telemetry")]:
    del sys.modules[name]
sys.modules["httpx"] = None
import telemetry.client
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    last = run.stderr.strip().splitlines()[-1]
    assert last.endswith("httpx is not installed; it comes with: pip install 'urban-telemetry[client]'"), run.stderr
