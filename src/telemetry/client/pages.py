"""Answers that come in pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from telemetry.client.bodies import Envelope, body
from telemetry.client.exchange import Answer, Flow, Question, Request, fetch
from telemetry.client.parameters import instant

Row = TypeVar("Row")
Row_co = TypeVar("Row_co", covariant=True)


@dataclass(frozen=True, slots=True)
class PageMeta:
    """What a page is about; a route tells some of it.

    Attributes:
        next: cursor of the next page; None on the last.
        as_of: when the answer was made.
        start, end: the half-open range.
        since: how far back was looked.
        complete_from: from when on rows are kept, if the range begins before that.
    """

    next: str | None = None
    domain: str | None = None
    tz: str | None = None
    as_of: datetime | None = None
    start: datetime | None = None
    end: datetime | None = None
    since: datetime | None = None
    complete_from: datetime | None = None
    order: str | None = None


class AnyPage(Protocol[Row_co]):
    """Some rows, in order."""

    @property
    def meta(self) -> PageMeta:
        """What the page is about."""

    @property
    def rows(self) -> Sequence[Row_co]:
        """Its rows."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows, in order."""

    meta: PageMeta
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Paged(Generic[Row]):
    """A question that is answered page by page.

    Attributes:
        first: request for the first page.
        read: the page in an answer.
    """

    first: Request
    read: Callable[[Answer], AnyPage[Row]]

    def page(self, request: Request) -> Question[AnyPage[Row]]:
        """The question for one page."""

        def flow() -> Flow[AnyPage[Row]]:
            return self.read((yield from fetch(request)))

        return Question(flow)

    def after(self, page: AnyPage[Row]) -> Request | None:
        """The request for the next page, about the same range, for `-1h` and `now` move on; None after the last."""
        return next_request(self.first, page.meta)


def next_request(first: Request, meta: PageMeta) -> Request | None:
    """The request for the page after one."""
    return None if meta.next is None else with_range(first, meta).having(cursor=meta.next)


def with_range(first: Request, meta: PageMeta) -> Request:
    """The request about the range that an answer had."""
    edges = {"start": meta.start, "end": meta.end, "since": meta.since}
    return first.having(**{name: instant(name, value) for name, value in edges.items() if value is not None})


def in_pages(request: Request, model: type[Envelope[PageMeta, tuple[Row, ...]]]) -> Paged[Row]:
    """A question whose pages are JSON."""

    def read(answer: Answer) -> Page[Row]:
        found = body(model, answer)
        return Page(found.meta, found.data)

    return Paged(request, read)
