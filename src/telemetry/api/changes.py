"""`GET /v1/{domain}/changes`: which closed buckets changed, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Response

from telemetry.api.bodies import json_page
from telemetry.api.documentation import documented
from telemetry.api.paging import Cursor, Limit, decode, encode, page_size
from telemetry.api.parameters import StrictRoute, Tz
from telemetry.api.schemas import ANY_INTEGER, ANY_TEXT, NEXT
from telemetry.api.service import TheDomain, TheService
from telemetry.errors import InvalidQuery
from telemetry.query.changes import (
    Change,
    Closing,
    Noted,
    changed_buckets,
    closing,
    parse_changes_window,
)
from telemetry.query.instants import INSTANTS, format_instant, instant, microseconds, parse_instant

router = APIRouter(prefix="/v1", tags=["series"], route_class=StrictRoute)

_SINCE = (
    "Changes that were noted after this instant: `as_of` of the answer that was billed on, or of the last answer about "
    "changes. RFC 3339 with an offset, or relative to now: `-24h`, `-7d`."
)


@router.get(
    "/{domain}/changes",
    summary="Closed buckets that changed",
    **documented(
        {
            "meta": {
                "domain": "energy",
                "window": "1d",
                "tz": "Europe/Paris",
                "since": "2026-11-23T06:00:00.512204+01:00",
                "as_of": "2026-11-24T16:40:23.106322+01:00",
                "closed_until": "2026-11-24T16:30:00+01:00",
                "recorded_from": "2026-10-01T09:15:00+02:00",
                "next": None,
            },
            "data": [
                {
                    "bucket": "2026-11-21T00:00:00+01:00",
                    "first_change": "2026-11-23T09:12:14.020412+01:00",
                    "last_change": "2026-11-23T09:12:29.310021+01:00",
                    "changes": 6,
                    "reasons": ["late", "merged"],
                    "late": 84,
                    "merged": 2,
                    "swaps": 0,
                }
            ],
        },
        overrides=NEXT | {"closed_until": ANY_TEXT, "recorded_from": ANY_TEXT, "late": ANY_INTEGER},
        questions={
            "The quarters of an hour of the meters that changed after their closing": "/v1/energy/changes?since=-24h",
            "The days of the lamps that changed after their closing": "/v1/lighting/changes?since=-7d&window=1d",
        },
        problems=(404, 422, 503),
    ),
)
async def changes(
    domain: TheDomain,
    service: TheService,
    since: Annotated[str, Query(description=_SINCE)] = "-24h",
    window: Annotated[
        str, Query(description="Width of a bucket, as for series; a quarter of an hour at the least.")
    ] = "15m",
    tz: Tz = None,
    limit: Limit = 1000,
    cursor: Cursor = None,
) -> Response:
    """The buckets that got further readings (`late`), readings of which were completed (`merged`), or in which meter
    swaps were declared, changed or withdrawn (`swap`), after they were closed; in order of time. `late` is null where
    it is not known how many. Going on with `since=` the `as_of` of the answer misses no change and tells none twice;
    `as_of` of a series does not miss any.
    """
    now = datetime.now(UTC)
    after = parse_instant("since", since, now)
    if after > now:
        raise InvalidQuery("since", since, "is in the future", INSTANTS)
    chosen, time_zone = parse_changes_window(window), service.zone(tz)
    size, place = page_size(service, limit), decode(cursor, int, int, int)
    async with service.reading() as connection:
        state = await closing(connection, domain.name)
        after, until = _between(after, state) if place is None else (instant(place[0]), instant(place[1]))
        behind = None if place is None else instant(place[2])
        noted = Noted(domain.name, after, until)
        found = await changed_buckets(connection, noted, chosen, time_zone, behind, size + 1)
    page = found[:size]
    following = None if len(found) <= size else encode([microseconds(each) for each in (after, until, page[-1].start)])
    meta = {
        "domain": domain.name,
        "window": str(chosen),
        "tz": time_zone.key,
        "since": format_instant(after, time_zone),
        "as_of": format_instant(until, time_zone),
        "closed_until": None if state is None else format_instant(state.closed_until, time_zone),
        "recorded_from": None if state is None else format_instant(state.first_until, time_zone),
        "next": following,
    }
    return await json_page(page, partial(_row, time_zone=time_zone), meta)


def _between(after: datetime, state: Closing | None) -> tuple[datetime, datetime]:
    """What an answer is about: up to where it is known, or to where it was asked from if that is later."""
    return after, after if state is None else max(after, state.noted_at)


def _row(change: Change, time_zone: ZoneInfo) -> dict[str, Any]:
    reasons = {"late": change.late or not change.is_counted, "merged": change.merged, "swap": change.swaps}
    return {
        "bucket": format_instant(change.start, time_zone),
        "first_change": format_instant(change.first, time_zone),
        "last_change": format_instant(change.last, time_zone),
        "changes": change.changes,
        "reasons": [reason for reason, is_given in reasons.items() if is_given],
        "late": change.late if change.is_counted else None,
        "merged": change.merged,
        "swaps": change.swaps,
    }
