"""What every route needs: settings, domains, and connections that see one state of the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, cast
from zoneinfo import ZoneInfo

import asyncpg
import structlog
from fastapi import Depends, Path, Request

from telemetry.api.problems import not_found, unavailable
from telemetry.domains import Domain, Registry
from telemetry.query.cost import Bound, Sizing
from telemetry.query.database import Connection, snapshot
from telemetry.query.instants import parse_zone
from telemetry.settings import Settings
from telemetry.store.failures import in_words
from telemetry.store.pool import ASKING, create_pool

LEEWAY_S = 5.0
"""A server that has not ended a statement so long after `api.statement_timeout` is not there any more."""
READY_WITHIN_S = 5.0
PROBES = 2

log = structlog.get_logger()


@dataclass
class Service:
    """The running service.

    Attributes:
        pool: what questions are asked over.
        probe: connections that no question can take, one for `/readyz` and one for `/metrics`.
        is_migrated: it was found in order once; a schema does not go back by itself.
    """

    settings: Settings
    registry: Registry
    pool: asyncpg.Pool
    probe: asyncpg.Pool
    is_migrated: bool = False
    _sizing: Sizing = field(default_factory=Sizing)
    _endings: set[asyncio.Task[None]] = field(default_factory=set)
    _streams: int = 0

    @classmethod
    async def start(cls, settings: Settings, registry: Registry) -> Service:
        """The service with its connections, which are opened when they are needed."""
        answer_within_s = settings.api.statement_timeout.total_seconds() + LEEWAY_S
        pool = await create_pool(settings, ASKING, answer_within_s=answer_within_s)
        return cls(
            settings, registry, pool, await create_pool(settings, "probe", size=PROBES, answer_within_s=READY_WITHIN_S)
        )

    def cut(self) -> None:
        """Breaks all connections off: what waits for the database fails at once, even if it has stopped answering."""
        self.pool.terminate()
        self.probe.terminate()

    def bound(self, precise: bool) -> Bound:
        """How many rows a question may read; `precise` if the figure is to be shown."""
        return Bound(self._sizing, self.settings.api.max_rows_read, precise)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """A connection within a read-only snapshot that ends a statement after `api.statement_timeout`.

        After a block that succeeded, the snapshot ends by itself: no answer waits for that.
        """
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self.connection())
            yield await stack.enter_async_context(snapshot(connection, self.settings.api.statement_timeout))
            ending = asyncio.create_task(stack.pop_all().aclose(), name="end-snapshot")
            self._endings.add(ending)
            ending.add_done_callback(self._ended)

    def _ended(self, ending: asyncio.Task[None]) -> None:
        self._endings.discard(ending)
        if not ending.cancelled() and (error := ending.exception()):
            log.warning("api_snapshot_lost", error=in_words(error))

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the pool; waits for one as long as a statement may run.

        Raises:
            Problem: 503, as others had all of them for so long.
        """
        timeout = self.settings.api.statement_timeout.total_seconds()
        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(self.pool.acquire(timeout=timeout))
            except TimeoutError:
                most = self.pool.get_max_size()
                if self.pool.get_size() < most or self.pool.get_idle_size():
                    raise  # there was room: it is the database that did not answer
                detail = f"questions of others have all {most} connections (database.pool_size); ask again later"
                raise unavailable("too-busy", detail) from None
            yield cast(asyncpg.Connection, connection)

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """What a stream does while it keeps a connection; its client decides for how long.

        Raises:
            Problem: 503, as half of the pool is left to others.
        """
        most = max(1, self.settings.database.pool_size // 2)
        if self._streams >= most:
            raise unavailable("too-many-streams", f"{most} long answers are being sent (half of database.pool_size)")
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    def zone(self, tz: str | None) -> ZoneInfo:
        """The time zone that was asked for, else that of the city.

        Raises:
            InvalidQuery: there is no such zone.
        """
        return parse_zone("tz", self.settings.timezone if tz is None else tz)

    def domain(self, name: str) -> Domain:
        """The domain of that name.

        Raises:
            Problem: 404, with the domains that there are.
        """
        if name not in self.registry:
            raise not_found("domain", name, tuple(self.registry))
        return self.registry[name]


async def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


async def _domain(
    domain: Annotated[str, Path(description="As `/v1/domains` lists them.", examples=["lighting"])], request: Request
) -> Domain:
    return cast(Service, request.app.state.service).domain(domain)


async def _until_sent() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


UntilSent = Annotated[AsyncExitStack, Depends(_until_sent, scope="request")]
"""What a stream needs until it is sent, or its client is gone; closing it earlier is possible."""
TheService = Annotated[Service, Depends(_service)]
TheDomain = Annotated[Domain, Depends(_domain)]
