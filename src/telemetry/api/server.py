"""Running the application: the socket, the signals, and a graceful end."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa
import structlog
import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry.api.app import create_app
from telemetry.api.problems import RETRY_AFTER_S, unavailable
from telemetry.errors import ConfigurationError
from telemetry.settings import ApiSettings, Settings

log = structlog.get_logger()

GRACE_S = 3
"""Seconds that running questions get to end after SIGTERM; then the database is taken from them, and they say so."""
_ANSWER_WITHIN_S = 1
"""Seconds for those answers; what waits for something else then is cancelled. All ends within 5 seconds."""

YOUNG = 10_000
"""Objects that are made before the collector looks at them: the rows of an answer, which hold no cycles."""
OLDER = 2
"""Such looks before it looks at all that they left, which takes as long as there are many …"""
OLD = 5_000
"""… and those before it looks at all objects. While a large answer is made, that takes half a second in which nobody
else is answered; and next to nothing in this process is left in cycles."""


class _Server(uvicorn.Server):
    """Ends on SIGTERM and SIGINT as if that were ordinary, which it is: uvicorn would raise them again.

    Args:
        cut: breaks off the connections to the database.
    """

    def __init__(self, config: uvicorn.Config, cut: Callable[[], None]) -> None:
        super().__init__(config)
        self._cut = cut

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; cancelled, a question to a database that has stopped answering would wait on for it."""
        cutting = asyncio.get_running_loop().call_later(GRACE_S, self._cut)
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


class _Told:
    """ASGI middleware: what uvicorn cancels at the end is answered; uvicorn itself would log a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        began = False

        async def watch(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            if not began:
                problem = unavailable("stopping", "the service is being stopped; ask again later")
                await problem.response(Request(scope), {"Retry-After": str(RETRY_AFTER_S)})(scope, receive, send)


async def run(settings: Settings) -> None:
    """Serves HTTP until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: the address cannot be listened on, or the application cannot start.
    """
    app = create_app(settings)
    with _listening(settings.api) as listener:
        server = _Server(
            uvicorn.Config(
                _Told(app),
                log_config=None,
                access_log=False,
                lifespan="on",
                timeout_graceful_shutdown=GRACE_S + _ANSWER_WITHIN_S,
                ws="none",
                forwarded_allow_ips=settings.api.trusted_proxies,
            ),
            cut=lambda: app.state.service.cut(),
        )
        _tune_garbage_collector()
        log.info("api_listens", host=settings.api.host, port=settings.api.port)
        await server.serve([listener])
    if not server.started:
        raise ConfigurationError("the HTTP service could not start; its log says why")


def _tune_garbage_collector() -> None:
    """Spares the collector what was made until now and stays: it looked through all of it amid large answers."""
    # Arrow looks for pandas with its first array, and imports it where it is there.
    pa.array([0])
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, OLDER, OLD)


@contextmanager
def _listening(settings: ApiSettings) -> Iterator[socket.socket]:
    """The listening socket, made before anything else so that a taken port is told in one sentence."""
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(
            f"the HTTP service cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
            "choose another api.port or api.host, or end the program that has it"
        ) from error
    # Headers and body leave in two writes; without it, the second one waits for the first one's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listener:
        yield listener
