"""A TCP proxy that does to its connections what networks do: cuts, swallows, forgets one half, crawls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Literal

HOST = "127.0.0.1"
_CHUNK = 16_384


class Proxy:
    """Listens on a port of its own and carries bytes to another one, until it is told what to spoil.

    Args:
        port: where the real server listens on 127.0.0.1.

    Attributes:
        port: where the proxy listens.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self._target = port
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._swallows = False
        self._delay_s = 0.0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [pair.task for pair in self._pairs]
        self.cut()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many there are, dead ones included."""
        return len(self._pairs)

    def cut(self) -> None:
        """Ends every connection at once, for both sides; new ones are welcome."""
        for pair in list(self._pairs):
            pair.abort()

    def blackhole(self) -> None:
        """Swallows everything without a word to either side, and what new connections send as well, until `heal`."""
        self._swallows = True
        for pair in self._pairs:
            pair.dead = True

    def half_open(self, keep: Literal["client", "server"]) -> None:
        """Ends one half of every connection; the other half stays open, and nobody answers there any more."""
        for pair in self._pairs:
            pair.dead = True
            pair.drop("server" if keep == "client" else "client")

    def slow(self, delay_s: float) -> None:
        """Lets each 16 KiB of either direction wait so long."""
        self._delay_s = delay_s

    def heal(self) -> None:
        """Serves new connections again; those that were dead stay so."""
        self._swallows = False
        self._delay_s = 0.0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        pair = _Pair(task, reader, writer)
        pair.dead = self._swallows
        self._pairs.add(pair)
        try:
            if not pair.dead:
                pair.join(*await asyncio.open_connection(HOST, self._target))
            await asyncio.gather(*(self._carry(pair, *way) for way in pair.ways()))
        except OSError:
            pass
        finally:
            pair.abort()
            self._pairs.discard(pair)

    async def _carry(self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                if not pair.dead and writer is not None:
                    writer.write(data)
                    await writer.drain()
        if not pair.dead:
            pair.abort()


class _Pair:
    """A client's connection to us and ours to the server.

    Attributes:
        dead: nothing is carried any more.
    """

    def __init__(self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.task = task
        self.dead = False
        self._client = (reader, writer)
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Adds the server's half."""
        self._server = (reader, writer)

    def ways(self) -> Sequence[tuple[asyncio.StreamReader, asyncio.StreamWriter | None]]:
        """Where bytes come from and go to."""
        if self._server is None:
            return [(self._client[0], None)]
        return [(self._client[0], self._server[1]), (self._server[0], self._client[1])]

    def drop(self, side: Literal["client", "server"]) -> None:
        """Ends one half."""
        half = self._client if side == "client" else self._server
        if half is not None:
            half[1].transport.abort()

    def abort(self) -> None:
        """Ends both halves."""
        self.dead = True
        self.drop("client")
        self.drop("server")
