"""A database with a past, and the HTTP service on it in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from telemetry.demo.server import free_port
from telemetry.settings import load_settings
from tests.benchmarks.past import Past, fill
from tests.benchmarks.stand import Site, Stand, Subject, running
from tests.benchmarks.wire import wire


class Api(Subject):
    """`telemetry api` at a site."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.port = free_port()
        environment = {
            "TELEMETRY_DATABASE__URL": site.url,
            "TELEMETRY_API__PORT": str(self.port),
            "TELEMETRY_API__MAX_PAGE": "100000",
            # All clients of the benchmark have one address.
            "TELEMETRY_API__MAX_CONCURRENT_PER_CLIENT": "100",
        }
        super().__init__(site, ["telemetry", "api"], folder / f"{site.name}-api.log", environment)

    def ready(self) -> bool:
        """Whether it answers questions."""
        return asyncio.run(self._answers())

    async def _answers(self) -> bool:
        try:
            async with wire(self.port) as asked:
                await asked.get("/readyz")
        except (OSError, RuntimeError):
            return False
        return True


@dataclass(frozen=True)
class City:
    """What is asked.

    Attributes:
        port: of the HTTP service.
    """

    site: Site
    past: Past
    port: int

    @property
    def engine(self) -> str:
        """The storage engine."""
        return self.site.engine

    @asynccontextmanager
    async def connection(self, settings: Mapping[str, str] | None = None) -> AsyncIterator[asyncpg.Connection]:
        """A connection to the database, with settings of the server."""
        opened = await asyncpg.connect(self.site.url, server_settings={"timezone": "UTC", **(settings or {})})
        try:
            yield opened
        finally:
            await opened.close()


@contextmanager
def city(stand: Stand, engine: str, past: Past) -> Iterator[City]:
    """A filled database, asked by way of the service; where the stand keeps it, the next run finds it filled."""
    with stand.site(engine, name=f"past_{engine}_{past.meters}_{past.days}_{past.end:%Y%m%d}") as site:
        asyncio.run(fill(load_settings(overrides={"database.url": site.url, "database.engine": engine}), past))
        api = Api(site, stand.folder)
        with running(api):
            yield City(site, past, api.port)
