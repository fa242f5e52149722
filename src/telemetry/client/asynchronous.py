"""The client for asyncio: that of `blocking`, with the same questions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import closing, nullcontext
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

from telemetry.client import questions
from telemetry.client.devices import Device
from telemetry.client.exchange import Answer, Flow, Question, Request, Retry, Send, Wait, flow_of, with_retries
from telemetry.client.latest import Latest
from telemetry.client.pages import AnyPage, Paged
from telemetry.client.quarantine import Refused
from telemetry.client.readings import Reading, ReadingsQuestion
from telemetry.client.transport import (
    CHUNK,
    CONCURRENCY,
    DEFAULT_TIMEOUT_S,
    NEVER,
    checked_concurrency,
    httpx,
    named_after,
    options,
    stream_arguments,
    to_answer,
    translating_errors,
)

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

P = ParamSpec("P")
T = TypeVar("T")
Row = TypeVar("Row")
Asked = TypeVar("Asked")
Shown = TypeVar("Shown")


class AsyncPages(Generic[Row]):
    """Rows that are fetched page by page while they are iterated over; each iteration asks anew."""

    def __init__(self, client: AsyncClient, question: Paged[Row]) -> None:
        self._client, self._question = client, question

    async def __aiter__(self) -> AsyncIterator[Row]:
        async for page in self.pages():
            for row in page.rows:
                yield row

    async def pages(self) -> AsyncIterator[AnyPage[Row]]:
        """The pages, each with its `meta`."""
        request: Request | None = self._question.first
        while request is not None:
            page = await self._client.ask(self._question.page(request))
            yield page
            request = self._question.after(page)

    async def to_list(self) -> list[Row]:
        """All rows."""
        return [row async for row in self]


class AsyncReadingPages(AsyncPages[Reading]):
    """Readings, which can be had as tables, too."""

    _question: ReadingsQuestion

    async def to_arrow(self) -> pa.Table:
        """All readings."""
        return (await self._client.ask(self._question.whole())).to_arrow()

    async def to_polars(self) -> pl.DataFrame:
        """All readings; Polars must be installed."""
        return (await self._client.ask(self._question.whole())).to_polars()

    async def to_pandas(self) -> pd.DataFrame:
        """All readings; pandas must be installed."""
        return (await self._client.ask(self._question.whole())).to_pandas()


def _asked(question: Callable[P, Question[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.ask(question(*args, **kwargs))

    return named_after(question, method)


def _paged(
    question: Callable[P, Asked], pages: Callable[[AsyncClient, Asked], Shown]
) -> Callable[Concatenate[AsyncClient, P], Shown]:
    def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> Shown:
        return pages(self, question(*args, **kwargs))

    return named_after(question, method)


class AsyncClient:
    """Asks the service; several questions may be under way at a time.

    Args:
        url: address of the service; may have a path, as behind a proxy.
        timeout: seconds in which the next part of an answer must have come; None waits for ever.
        headers: sent with every request.
        retry: how long questions that were refused for the moment are asked again; None is never.
        concurrency: questions that are under way at a time; the others wait for their turn, however long.
        verify: False, or a context of TLS, where the service's certificate is not of a known authority.
        transport: of httpx, for tests and proxies.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
        retry: Retry | None = Retry(),  # noqa: B008 - immutable
        concurrency: int = CONCURRENCY,
        verify: SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retry = retry or NEVER
        self._slots = asyncio.Semaphore(checked_concurrency(concurrency))
        self._http = httpx.AsyncClient(**options(url, timeout, headers, verify), transport=transport)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def ask(self, question: Question[T]) -> T:
        """The answer to a question.

        Raises:
            ClientError: there is none; see `telemetry.client.errors`.
        """
        flow = flow_of(question)
        slot = self._slots if question.is_bounded else nullcontext()
        async with slot:
            return await self._answer(flow)

    async def _answer(self, flow: Flow[T]) -> T:
        with closing(with_retries(flow, self._retry)) as steps:
            answer: Answer | None = None
            while True:
                try:
                    step = steps.send(answer)
                except StopIteration as end:
                    result: T = end.value
                    return result
                answer = await self._do(step)

    async def _do(self, step: Send | Wait) -> Answer | None:
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
            return None
        with translating_errors(step.request):
            async with self._http.stream(**stream_arguments(step.request)) as response:
                if step.sink is None or not response.is_success:
                    return to_answer(response, await response.aread())
                async for chunk in response.aiter_bytes(CHUNK):
                    await asyncio.to_thread(step.sink.write, chunk)
                return to_answer(response, b"")

    domains = _asked(questions.domains)
    series = _asked(questions.series)
    readings = _paged(questions.readings, AsyncReadingPages)
    latest = _paged(questions.latest, AsyncPages[Latest])
    changes = _asked(questions.changes)
    ledger = _asked(questions.ledger)
    devices = _paged(questions.devices, AsyncPages[Device])
    device = _asked(questions.device)
    put_device = _asked(questions.put_device)
    import_devices = _asked(questions.import_devices)
    delete_device = _asked(questions.delete_device)
    meter_swaps = _asked(questions.meter_swaps)
    meter_swap = _asked(questions.meter_swap)
    put_meter_swap = _asked(questions.put_meter_swap)
    delete_meter_swap = _asked(questions.delete_meter_swap)
    quarantine = _paged(questions.quarantine, AsyncPages[Refused])
    quarantine_entry = _asked(questions.quarantine_entry)
    quarantine_summary = _asked(questions.quarantine_summary)
    health = _asked(questions.health)
    version = _asked(questions.version)
    download = _asked(questions.download)
