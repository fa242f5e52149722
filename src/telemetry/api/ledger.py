"""`GET /v1/ledger`: the proof that nothing was lost."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Response

from telemetry.api.bodies import json_page
from telemetry.api.documentation import documented
from telemetry.api.parameters import End, Start, StrictRoute, Tz
from telemetry.api.quarantine import UNKNOWN_DOMAIN
from telemetry.api.schemas import ANY_INTEGER, ANY_TEXT, INTEGER, mapping, schema_of
from telemetry.api.service import TheService
from telemetry.errors import InvalidQuery
from telemetry.query.instants import format_instant
from telemetry.query.ledger import Account, Loss, hours, losses
from telemetry.query.question import parse_range
from telemetry.query.turns import portions

router = APIRouter(prefix="/v1", tags=["ledger"], route_class=StrictRoute)

SIDES = ("received", "stored", "merged", "duplicate", "quarantined", "imbalance")


_SUMS = {
    "received": 1000,
    "stored": 990,
    "merged": 0,
    "duplicate": 7,
    "quarantined": 3,
    "imbalance": 0,
    "reasons": {"out_of_range": 3},
}
_REASONS = mapping(INTEGER)


@router.get(
    "/ledger",
    summary="The conservation table",
    **documented(
        {
            "meta": {
                "tz": "Europe/Paris",
                "start": "2026-11-23T16:40:23+01:00",
                "end": "2026-11-24T16:40:23+01:00",
                "balanced": True,
                "totals": _SUMS,
                "domains": {"lighting": _SUMS},
                "broker": {
                    "messages_dropped": 12,
                    "sessions_lost": 0,
                    "counters_seen_at": "2026-11-24T16:35:12+01:00",
                    "hours": [{"hour": "2026-11-24T16:00:00+01:00", "messages_dropped": 12, "sessions_lost": 0}],
                },
            },
            "data": [{"hour": "2026-11-24T16:00:00+01:00", "domain": "lighting", **_SUMS}],
        },
        overrides={
            "reasons": _REASONS,
            "domains": mapping(schema_of(_SUMS, {"reasons": _REASONS})),
            "messages_dropped": ANY_INTEGER,
            "counters_seen_at": ANY_TEXT,
        },
        questions={"The proof that nothing was lost": "/v1/ledger"},
    ),
)
async def ledger(
    service: TheService,
    domain: Annotated[tuple[str, ...], Query(description="Only these domains, or `unknown`. Repeatable.")] = (),
    start: Start = "-24h",
    end: End = "now",
    tz: Tz = None,
) -> Response:
    """Readings per domain and hour of receipt, of every hour that the range touches. Each reading that was received is
    stored, a duplicate or quarantined: `received = stored + duplicate + quarantined`, and `imbalance` is what is
    missing. `merged` is the part of `stored` that completed a row that was there. `meta` has the totals.

    `meta.broker` is what never reached the ledger, as far as the brokers tell, by the hour in which it was noticed:
    messages that they dropped, for us or for others (null where no counter was ever seen, as `counters_seen_at`), and
    sessions of ours that they forgot. It is for all domains.
    """
    allowed = (*service.registry, UNKNOWN_DOMAIN)
    for name in domain:
        if name not in allowed:
            raise InvalidQuery("domain", name, "there is no such domain", allowed)
    first, last = parse_range(start, end, datetime.now(UTC))
    time_zone = service.zone(tz)
    most = service.settings.api.max_values
    async with service.reading() as connection:
        found = await hours(connection, first, last, domain, most + 1)
        lost, seen_at = await losses(connection, first, last)
    if len(found) > most:
        raise InvalidQuery("start", start, f"the answer would have more than {most:,} rows; ask for a shorter range")
    sums = await _sums(found)
    meta = {
        "tz": time_zone.key,
        "start": format_instant(first, time_zone),
        "end": format_instant(last, time_zone),
        "balanced": all(each.is_balanced for each in sums.values()),
        "totals": _totals(sums.values()),
        "domains": {name: _totals([sums[name]]) for name in sorted(sums)},
        "broker": _broker(lost, seen_at, time_zone),
    }
    return await json_page(found, partial(_row, time_zone=time_zone), meta)


def _row(account: Account, time_zone: ZoneInfo) -> dict[str, Any]:
    return {
        "hour": format_instant(account.hour, time_zone),
        "domain": account.domain,
        **{side: getattr(account, side) for side in SIDES},
        "reasons": json.loads(account.reasons),
    }


def _broker(lost: Sequence[Loss], seen_at: datetime | None, time_zone: ZoneInfo) -> dict[str, Any]:
    dropped = sum(each.messages_dropped for each in lost)
    return {
        "messages_dropped": None if seen_at is None else dropped,
        "sessions_lost": sum(each.sessions_lost for each in lost),
        "counters_seen_at": None if seen_at is None else format_instant(seen_at, time_zone),
        "hours": [
            {
                "hour": format_instant(each.hour, time_zone),
                "messages_dropped": each.messages_dropped,
                "sessions_lost": each.sessions_lost,
            }
            for each in lost
        ],
    }


@dataclass
class _Sum:
    """What the accounts of a domain come to."""

    sides: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    is_balanced: bool = True

    def add(self, account: Account) -> None:
        for side in SIDES:
            self.sides[side] += getattr(account, side)
        self.reasons.update(json.loads(account.reasons))
        self.is_balanced &= not account.imbalance


async def _sums(accounts: Iterable[Account]) -> dict[str, _Sum]:
    """By domain; of many years these are many."""
    sums: defaultdict[str, _Sum] = defaultdict(_Sum)
    async for some in portions(accounts):
        for account in some:
            sums[account.domain].add(account)
    return sums


def _totals(sums: Iterable[_Sum]) -> dict[str, Any]:
    sides, reasons = Counter(dict.fromkeys(SIDES, 0)), Counter[str]()
    for each in sums:
        sides.update(each.sides)
        reasons.update(each.reasons)
    return {**sides, "reasons": dict(sorted(reasons.items()))}
