"""The client that waits for its answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Concatenate, Generic, ParamSpec, TypeVar

from telemetry.client import questions
from telemetry.client.devices import Device
from telemetry.client.exchange import Answer, Question, Request, Retry, Send, Wait, flow_of, with_retries
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


class Pages(Generic[Row]):
    """Rows that are fetched page by page while they are iterated over; each iteration asks anew."""

    def __init__(self, client: Client, question: Paged[Row]) -> None:
        self._client, self._question = client, question

    def __iter__(self) -> Iterator[Row]:
        for page in self.pages():
            yield from page.rows

    def pages(self) -> Iterator[AnyPage[Row]]:
        """The pages, each with its `meta`."""
        request: Request | None = self._question.first
        while request is not None:
            page = self._client.ask(self._question.page(request))
            yield page
            request = self._question.after(page)

    def to_list(self) -> list[Row]:
        """All rows."""
        return list(self)


class ReadingPages(Pages[Reading]):
    """Readings, which can be had as tables, too."""

    _question: ReadingsQuestion

    def to_arrow(self) -> pa.Table:
        """All readings."""
        return self._client.ask(self._question.whole()).to_arrow()

    def to_polars(self) -> pl.DataFrame:
        """All readings; Polars must be installed."""
        return self._client.ask(self._question.whole()).to_polars()

    def to_pandas(self) -> pd.DataFrame:
        """All readings; pandas must be installed."""
        return self._client.ask(self._question.whole()).to_pandas()


def _asked(question: Callable[P, Question[T]]) -> Callable[Concatenate[Client, P], T]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.ask(question(*args, **kwargs))

    return named_after(question, method)


def _paged(
    question: Callable[P, Asked], pages: Callable[[Client, Asked], Shown]
) -> Callable[Concatenate[Client, P], Shown]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Shown:
        return pages(self, question(*args, **kwargs))

    return named_after(question, method)


class Client:
    """Asks the service and waits for the answer. May be used from several threads.

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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._retry = retry or NEVER
        self._slots = threading.Semaphore(checked_concurrency(concurrency))
        self._http = httpx.Client(**options(url, timeout, headers, verify), transport=transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def ask(self, question: Question[T]) -> T:
        """The answer to a question.

        Raises:
            ClientError: there is none; see `telemetry.client.errors`.
        """
        flow = flow_of(question)
        slot = self._slots if question.is_bounded else nullcontext()
        with slot, closing(with_retries(flow, self._retry)) as steps:
            answer: Answer | None = None
            while True:
                try:
                    step = steps.send(answer)
                except StopIteration as end:
                    result: T = end.value
                    return result
                answer = self._do(step)

    def _do(self, step: Send | Wait) -> Answer | None:
        if isinstance(step, Wait):
            time.sleep(step.seconds)
            return None
        with translating_errors(step.request), self._http.stream(**stream_arguments(step.request)) as response:
            if step.sink is None or not response.is_success:
                return to_answer(response, response.read())
            for chunk in response.iter_bytes(CHUNK):
                step.sink.write(chunk)
            return to_answer(response, b"")

    domains = _asked(questions.domains)
    series = _asked(questions.series)
    readings = _paged(questions.readings, ReadingPages)
    latest = _paged(questions.latest, Pages[Latest])
    changes = _asked(questions.changes)
    ledger = _asked(questions.ledger)
    devices = _paged(questions.devices, Pages[Device])
    device = _asked(questions.device)
    put_device = _asked(questions.put_device)
    import_devices = _asked(questions.import_devices)
    delete_device = _asked(questions.delete_device)
    meter_swaps = _asked(questions.meter_swaps)
    meter_swap = _asked(questions.meter_swap)
    put_meter_swap = _asked(questions.put_meter_swap)
    delete_meter_swap = _asked(questions.delete_meter_swap)
    quarantine = _paged(questions.quarantine, Pages[Refused])
    quarantine_entry = _asked(questions.quarantine_entry)
    quarantine_summary = _asked(questions.quarantine_summary)
    health = _asked(questions.health)
    version = _asked(questions.version)
    download = _asked(questions.download)
