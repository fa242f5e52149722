"""An HTTP client that is never the bottleneck: GET over one connection that is kept, the answer as bytes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlencode

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_LONGEST_HEAD = 2**20


class Wire:
    """One connection to a server of this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def get(self, path: str) -> bytes:
        """The body of an answer that has a length.

        Raises:
            RuntimeError: the answer is no 200, or is sent in chunks.
        """
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is None:
            raise RuntimeError(f"{path} is answered without a length: {head!r}")
        body = await self._reader.readexactly(int(length[1]))
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{path} is answered with {head[:12]!r}: {body[:500]!r}")
        return body


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    """A connection that is closed with the block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_LONGEST_HEAD)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def address(route: str, asked: dict[str, object]) -> str:
    """The path of a question about energy."""
    return f"/v1/energy/{route}?{urlencode(asked, doseq=True)}"
