"""Closed buckets that changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from telemetry.client.bodies import Envelope, body
from telemetry.client.exchange import Flow, Question, Request, fetch
from telemetry.client.parameters import Instant, parameters, segment


@dataclass(frozen=True, slots=True)
class Change:
    """A closed bucket that changed afterwards.

    Attributes:
        bucket: its start.
        first_change, last_change: when that was noted.
        changes: how often one of its quarters of an hour changed.
        late: readings that were added; None where that was not counted.
        merged: readings that were completed.
        swaps: meter swaps that were declared, changed or withdrawn.
    """

    bucket: datetime
    first_change: datetime
    last_change: datetime
    changes: int
    reasons: tuple[Literal["late", "merged", "swap"], ...]
    late: int | None
    merged: int
    swaps: int = 0


@dataclass(frozen=True, slots=True)
class _Meta:
    domain: str
    window: str
    tz: str
    since: datetime
    as_of: datetime
    closed_until: datetime | None
    recorded_from: datetime | None
    next: str | None


@dataclass(frozen=True, slots=True)
class Changes:
    """All changes after an instant, in order of time.

    Attributes:
        as_of: what to pass as `since` the next time: no change is missed, and none is told twice. Keep it once the
            changes are dealt with.
        closed_until: how far buckets are closed.
        recorded_from: since when changes are recorded.
    """

    domain: str
    window: str
    tz: str
    since: datetime
    as_of: datetime
    closed_until: datetime | None
    recorded_from: datetime | None
    rows: tuple[Change, ...]

    def __iter__(self) -> Iterator[Change]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def changes(
    domain: str,
    *,
    since: Instant = "-24h",
    window: str = "15m",
    tz: str | None = None,
    page_size: int | None = None,
) -> Question[Changes]:
    """The closed buckets that got further readings, readings of which were completed, or in which meters were said to
    have been swapped, after an instant.

    Args:
        domain: as `domains` lists them.
        since: `as_of` of the series that was billed on, or of the last changes.
        window: width of a bucket; a quarter of an hour at the least.
        tz: IANA time zone of the buckets; default is the city's.
        page_size: buckets that are fetched at a time; default and most are the service's.
    """
    asked = parameters(since=since, window=window, tz=tz, limit=page_size)
    first = Request(f"v1/{segment('domain', domain)}/changes", asked)

    def flow() -> Flow[Changes]:
        rows: list[Change] = []
        request = first
        while True:
            page = body(Envelope[_Meta, tuple[Change, ...]], (yield from fetch(request)))
            rows += page.data
            if page.meta.next is None:
                return _whole(page.meta, rows)
            request = first.having(cursor=page.meta.next)

    return Question(flow)


def _whole(meta: _Meta, rows: list[Change]) -> Changes:
    return Changes(
        meta.domain,
        meta.window,
        meta.tz,
        meta.since,
        meta.as_of,
        meta.closed_until,
        meta.recorded_from,
        tuple(rows),
    )
