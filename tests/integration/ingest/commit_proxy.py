"""Between ingest and a real PostgreSQL: cuts the connection at a chosen message, or at the COMMIT, before or after it.

Only from here the two can be told apart for certain: after the COMMIT this side has the server's answer, which ingest
never gets.
"""

from __future__ import annotations

import asyncio
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

Cut: TypeAlias = int | Literal["before commit", "after commit"]
"""The number of the message that is not handed on any more, counted from now on; or which side of the next COMMIT."""

_COMMIT: Final = b"COMMIT;\0"
_READY: Final = b"Z\0\0\0\5"


class CommitProxy:
    """A TCP proxy in the test's event loop.

    Attributes:
        done: set when the planned cut has been made.
    """

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.WriteTransport] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._cut: Cut | None = None
        self._seen = 0
        self.done = asyncio.Event()

    async def open(self) -> str:
        """Begins to serve; returns the URL of the database through it."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        user = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{user}@127.0.0.1:{port}"))

    async def close(self) -> None:
        """Ends everything."""
        assert self._server is not None
        self._server.close()
        self.cut_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def plan(self, cut: Cut | None) -> None:
        """What is to be done to whichever connection comes to it first."""
        self._cut, self._seen = cut, 0
        self.done.clear()

    def cut_all(self) -> None:
        """Ends all connections, as the death of a process does."""
        for transport in list(self._transports):
            transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        server, questions = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        pair = {answers.transport, questions.transport}
        self._transports |= pair
        withheld = asyncio.Event()
        pumps = [
            asyncio.ensure_future(self._ask(client, questions, withheld)),
            asyncio.ensure_future(self._answer(server, answers, withheld)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for transport in pair:
                transport.abort()
            self._transports -= pair
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _ask(self, client: asyncio.StreamReader, server: asyncio.StreamWriter, withheld: asyncio.Event) -> None:
        """Hands on what the client says; returning cuts the connection."""
        while data := await client.read(65_536):
            self._seen += 1
            if self._seen == self._cut or (self._cut == "before commit" and _COMMIT in data):
                self._cut = None
                self.done.set()
                return
            if self._cut == "after commit" and _COMMIT in data:
                self._cut = None
                withheld.set()
            server.write(data)

    async def _answer(
        self, server: asyncio.StreamReader, client: asyncio.StreamWriter, withheld: asyncio.Event
    ) -> None:
        """Hands on what the server says, but not its answer to a COMMIT that is to stay open."""
        while data := await server.read(65_536):
            if not withheld.is_set():
                client.write(data)
            elif _READY in data:
                self.done.set()
                return
