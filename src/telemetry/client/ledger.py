"""The proof that nothing was lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from telemetry.client.bodies import Envelope, body
from telemetry.client.exchange import Answer, Question, Request, one
from telemetry.client.parameters import Instant, Names, parameters


@dataclass(frozen=True, slots=True)
class Account:
    """What was received, and what became of it: `received = stored + duplicate + quarantined + imbalance`.

    Attributes:
        merged: the part of `stored` that completed a row that was there.
        imbalance: what is missing.
        reasons: of what was quarantined.
    """

    received: int
    stored: int
    merged: int
    duplicate: int
    quarantined: int
    imbalance: int
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class HourAccount(Account):
    """The account of one domain and hour of receipt."""

    hour: datetime
    domain: str


@dataclass(frozen=True, slots=True)
class Loss:
    """What the brokers lost before it reached the service, by the hour in which that was noticed."""

    hour: datetime
    messages_dropped: int
    sessions_lost: int


@dataclass(frozen=True, slots=True)
class Broker:
    """What never reached the ledger, as the brokers tell it.

    Attributes:
        messages_dropped: for us or for others; None where no counter was ever seen.
    """

    messages_dropped: int | None
    sessions_lost: int
    counters_seen_at: datetime | None
    hours: tuple[Loss, ...]


@dataclass(frozen=True, slots=True)
class _Meta:
    tz: str
    start: datetime
    end: datetime
    balanced: bool
    totals: Account
    domains: Mapping[str, Account]
    broker: Broker


@dataclass(frozen=True, slots=True)
class Ledger:
    """The account of a range, its totals by domain, and each hour.

    Attributes:
        balanced: no hour of no domain misses anything.
    """

    tz: str
    start: datetime
    end: datetime
    balanced: bool
    totals: Account
    domains: Mapping[str, Account]
    broker: Broker
    rows: tuple[HourAccount, ...]

    def __iter__(self) -> Iterator[HourAccount]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def ledger(
    *, domain: Names | None = None, start: Instant = "-24h", end: Instant = "now", tz: str | None = None
) -> Question[Ledger]:
    """What was received and what became of it, per domain and hour of receipt.

    Args:
        domain: only these, or `unknown`.
        start, end: of the time of receipt; every hour that the range touches is there.
        tz: IANA time zone in which times are shown; default is the city's.
    """
    return one(Request("v1/ledger", parameters(domain=domain, start=start, end=end, tz=tz)), _read)


def _read(answer: Answer) -> Ledger:
    found = body(Envelope[_Meta, tuple[HourAccount, ...]], answer)
    meta = found.meta
    return Ledger(meta.tz, meta.start, meta.end, meta.balanced, meta.totals, meta.domains, meta.broker, found.data)
