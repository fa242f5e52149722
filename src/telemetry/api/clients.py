"""What one client may ask at a time, and what becomes of its question when it goes away.

A client is an address: that of the peer, or the one that a trusted proxy names (`api.trusted_proxies`). Only what is
below `/v1` is bounded, so that health and metrics answer whoever is busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry.api.documentation import PROBLEM
from telemetry.api.problems import Problem
from telemetry.settings import ApiSettings

QUESTIONS = "/v1/"
GONE = 499
"""Status under which a question is counted whose asker did not wait; nobody receives it."""
WAIT_S = 2.0
"""Seconds that a question waits for the client's others to end, before it is refused."""
QUEUE = 4
"""Times as many questions of a client may wait as may run."""
REFUSALS: dict[int | str, dict[str, Any]] = {HTTPStatus.TOO_MANY_REQUESTS.value: PROBLEM}
"""What OpenAPI says of every route below `/v1`."""


def install(app: FastAPI, settings: ApiSettings) -> None:
    """Bounds what each client asks at a time, and ends the questions of those that hang up."""
    app.add_middleware(ConcurrencyLimit, most=settings.max_concurrent_per_client)
    app.add_middleware(CancelOnDisconnect)


class CancelOnDisconnect:
    """ASGI middleware that cancels a reading question when its client closes the connection.

    The cancellation reaches the statement that runs in PostgreSQL, and the snapshot ends. Writing requests are
    left to finish: they are short, and whoever sent one wants it done.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if not _is_question(scope) or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        # From this version on Starlette leaves hang-ups to the server, that is to us. Its own way cancels again and
        # again, also what ends the snapshot.
        scope["asgi"] = {**scope["asgi"], "spec_version": "2.4"}
        await _Answering(send).run(lambda answering: self._app(scope, _receive_nothing, answering.send), receive)


class _Answering:
    """One question on its way, and how far its answer got."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._began = self._ended = self._was_left = False

    async def send(self, message: Message) -> None:
        """Passes a message on to the client."""
        self._began = True
        self._ended = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def run(self, answer: Callable[[_Answering], Awaitable[None]], receive: Receive) -> None:
        """Runs until the answer is complete or the client is gone."""
        task = asyncio.current_task()
        assert task is not None
        watch = asyncio.create_task(self._watch(receive, task))
        try:
            await answer(self)
        except asyncio.CancelledError:
            # Also a shutdown cancels, and that one must go on.
            if not self._was_left or task.uncancel() > 0:
                raise
            if not self._began:
                await self._send({"type": "http.response.start", "status": GONE, "headers": []})
        finally:
            watch.cancel()

    async def _watch(self, receive: Receive, task: asyncio.Task[None]) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        # A complete answer looks like a hang-up, too; what tidies up behind it is left in peace.
        if not self._ended:
            self._was_left = True
            task.cancel()


class ConcurrencyLimit:
    """ASGI middleware that lets each client have `most` questions at a time; 429 if none of them ends in `WAIT_S`."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._queues: dict[str, _Queue] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if not _is_question(scope):
            await self._app(scope, receive, send)
            return
        async with self._queue(scope) as queue:
            if not await queue.take():
                response = self._refusal().response(Request(scope), {"Retry-After": f"{WAIT_S:.0f}"})
                await response(scope, receive, send)
                return
            try:
                await self._app(scope, receive, send)
            finally:
                queue.slots.release()

    @asynccontextmanager
    async def _queue(self, scope: Scope) -> AsyncIterator[_Queue]:
        """The client's queue; forgotten when nobody waits in it."""
        address = scope["client"][0] if scope.get("client") else ""
        queue = self._queues.setdefault(address, _Queue(self._most))
        queue.present += 1
        try:
            yield queue
        finally:
            queue.present -= 1
            if not queue.present:
                del self._queues[address]

    def _refusal(self) -> Problem:
        detail = f"{self._most} questions of this client are running (api.max_concurrent_per_client); ask again later"
        return Problem(HTTPStatus.TOO_MANY_REQUESTS, "too-many-questions", detail, limit=self._most)


class _Queue:
    """The questions of one client.

    Attributes:
        present: those that run and those that wait.
    """

    def __init__(self, most: int) -> None:
        self.slots = asyncio.Semaphore(most)
        self.present = 0
        self._longest = most * (1 + QUEUE)

    async def take(self) -> bool:
        """Takes a slot; False where none was free in time, or too many wait already."""
        if self.present > self._longest:
            return False
        if not self.slots.locked():
            return await self.slots.acquire()
        try:
            async with asyncio.timeout(WAIT_S):
                return await self.slots.acquire()
        except TimeoutError:
            return False


def _is_question(scope: Scope) -> bool:
    path: str = scope.get("path", "")
    return scope["type"] == "http" and path.startswith(QUESTIONS)


async def _receive_nothing() -> Message:
    """A client that says no more: the body of a reading question means nothing, and hang-ups are watched for."""
    never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    return await never
