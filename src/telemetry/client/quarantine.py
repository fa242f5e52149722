"""What was refused, and why."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from numbers import Integral
from typing import Literal

from telemetry.client.bodies import DataOnly, Envelope, body
from telemetry.client.errors import InvalidArgument
from telemetry.client.exchange import Answer, Question, Request, one
from telemetry.client.pages import Paged, PageMeta, in_pages
from telemetry.client.parameters import Instant, Names, Reason, parameters


@dataclass(frozen=True, slots=True)
class Refused:
    """A message, or one reading of it, that was refused.

    Attributes:
        detail: one sentence: what was wrong, and what is allowed.
        position: of the reading in the message's array.
        payload: as it came; base64 where it is no UTF-8.
        payload_bytes: size of all of it; a list cuts long payloads off.
    """

    id: int
    received_at: datetime
    domain: str
    device_id: str | None
    reason: str
    detail: str
    topic: str
    position: int | None
    payload: str
    payload_encoding: Literal["text", "base64"]
    payload_bytes: int

    @property
    def raw(self) -> bytes:
        """The payload's bytes, as far as they are here."""
        return base64.b64decode(self.payload) if self.payload_encoding == "base64" else self.payload.encode()


@dataclass(frozen=True, slots=True)
class RefusedCount:
    """How much was refused for one reason in one domain."""

    domain: str
    reason: str
    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class _Meta:
    count: int


@dataclass(frozen=True, slots=True)
class RefusedSummary:
    """How much of what was refused is kept, by domain and reason."""

    count: int
    rows: tuple[RefusedCount, ...]

    def __iter__(self) -> Iterator[RefusedCount]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def quarantine(
    *,
    reason: Reason | Sequence[Reason] | None = None,
    domain: Names | None = None,
    device: Names | None = None,
    start: Instant | None = None,
    end: Instant | None = None,
    page_size: int | None = None,
) -> Paged[Refused]:
    """What was refused, newest first.

    Args:
        reason, domain, device: only these; the domain of a message whose topic names none is `unknown`.
        start, end: of the time of receipt.
        page_size: entries that are fetched at a time; default and most are the service's.
    """
    asked = parameters(reason=reason, domain=domain, device=device, start=start, end=end, limit=page_size)
    return in_pages(Request("v1/quarantine", asked), Envelope[PageMeta, tuple[Refused, ...]])


def quarantine_entry(number: int) -> Question[Refused]:
    """The entry of that `id`, with its whole payload.

    Raises:
        NotFound: there is none.
    """
    if not isinstance(number, Integral):
        raise InvalidArgument(f"number: {number!r} is no id of an entry; allowed: its `id`, a whole number")
    return one(Request(f"v1/quarantine/{number}"), lambda answer: body(DataOnly[Refused], answer).data)


def quarantine_summary(
    *,
    reason: Reason | Sequence[Reason] | None = None,
    domain: Names | None = None,
    device: Names | None = None,
    start: Instant | None = None,
    end: Instant | None = None,
) -> Question[RefusedSummary]:
    """How much was refused, by domain and reason; filters as for `quarantine`."""
    asked = parameters(reason=reason, domain=domain, device=device, start=start, end=end)
    return one(Request("v1/quarantine/summary", asked), _summary)


def _summary(answer: Answer) -> RefusedSummary:
    found = body(Envelope[_Meta, tuple[RefusedCount, ...]], answer)
    return RefusedSummary(found.meta.count, found.data)
