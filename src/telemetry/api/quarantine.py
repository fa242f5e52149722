"""`/v1/quarantine`: what was refused and why."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response

from telemetry.api.bodies import json_page, json_response
from telemetry.api.documentation import documented
from telemetry.api.paging import Cursor, Limit, decode, encode, page_size
from telemetry.api.parameters import StrictRoute
from telemetry.api.problems import not_found
from telemetry.api.schemas import ANY_INTEGER, ANY_TEXT, NEXT
from telemetry.api.service import TheService
from telemetry.errors import InvalidQuery, Reason
from telemetry.query import quarantine
from telemetry.query.instants import EARLIEST, format_utc, instant, microseconds, parse_instant
from telemetry.query.quarantine import Entry, Filters

router = APIRouter(prefix="/v1", tags=["quarantine"], route_class=StrictRoute)

UNKNOWN_DOMAIN = "unknown"
"""Where messages are counted whose topic names no domain."""

_EXAMPLE = {
    "id": 7,
    "received_at": "2026-11-24T15:40:23.213Z",
    "domain": "lighting",
    "device_id": "lamp-0012",
    "reason": "out_of_range",
    "detail": "power_w: 12000 is above 10000",
    "topic": "city/v1/lighting/lamp-0012",
    "position": None,
    "payload": '{"power_w": 12000}',
    "payload_encoding": "text",
    "payload_bytes": 18,
}
_OVERRIDES = {"device_id": ANY_TEXT, "position": ANY_INTEGER}


async def _filters(
    service: TheService,
    reason: Annotated[tuple[str, ...], Query(description="Only these reasons. Repeatable.")] = (),
    domain: Annotated[tuple[str, ...], Query(description="Only these domains, or `unknown`. Repeatable.")] = (),
    device: Annotated[tuple[str, ...], Query(description="Only these device ids. Repeatable.")] = (),
    start: Annotated[str | None, Query(description="Received from then on: RFC 3339 or `-24h`.")] = None,
    end: Annotated[str | None, Query(description="Received before then.")] = None,
) -> Filters:
    now = datetime.now(UTC)
    for parameter, names, allowed in (
        ("reason", reason, tuple(Reason)),
        ("domain", domain, (*service.registry, UNKNOWN_DOMAIN)),
    ):
        for name in names:
            if name not in allowed:
                raise InvalidQuery(parameter, name, f"there is no such {parameter}", allowed)
    return Filters(
        reason,
        domain,
        device,
        None if start is None else parse_instant("start", start, now),
        None if end is None else parse_instant("end", end, now),
    )


Filtered = Annotated[Filters, Depends(_filters)]


@router.get(
    "/quarantine",
    summary="What was refused and why",
    **documented(
        {"meta": {"next": None}, "data": [_EXAMPLE]},
        overrides=_OVERRIDES | NEXT,
        questions={"What was refused last": "/v1/quarantine?limit=20"},
    ),
)
async def list_quarantine(
    filters: Filtered, service: TheService, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """Entries, newest first. A payload is text where it is UTF-8, otherwise base64; `payload_encoding` says which. A
    long one is cut off here and whole in `/v1/quarantine/{id}`. Of a device that floods the service, only the first
    refused readings of each hour are here; the ledger has counted all of them.
    """
    before, start = decode(cursor, int, int) or (None, None)
    if start is not None:
        # Of the first page: "-24h" would be later now, and leave out the last entries.
        filters = replace(filters, start=instant(start))
    async with service.reading() as connection:
        found = await quarantine.page(connection, filters, before, page_size(service, limit))
    place = (found[-1].id, microseconds(filters.start or EARLIEST)) if len(found) == limit else None
    meta = {"next": place and encode([*place])}
    return await json_page(found, _row, meta)


@router.get(
    "/quarantine/summary",
    summary="How much was refused, by domain and reason",
    **documented(
        {
            "meta": {"count": 3},
            "data": [
                {
                    "domain": "lighting",
                    "reason": "out_of_range",
                    "count": 3,
                    "first": "2026-11-24T15:40:23Z",
                    "last": "2026-11-24T15:45:00Z",
                }
            ],
        },
        questions={"What was refused since yesterday": "/v1/quarantine/summary?start=-24h"},
    ),
)
async def summarise_quarantine(filters: Filtered, service: TheService) -> Response:
    """Counts of what is kept, by domain and reason, with the first and the last time of receipt."""
    async with service.reading() as connection:
        found = await quarantine.summary(connection, filters)
    return json_response(
        [
            {
                "domain": each.domain,
                "reason": each.reason,
                "count": each.count,
                "first": format_utc(each.first),
                "last": format_utc(each.last),
            }
            for each in found
        ],
        {"count": sum(each.count for each in found)},
    )


@router.get(
    "/quarantine/{number}",
    summary="One refused message",
    **documented({"data": _EXAMPLE}, overrides=_OVERRIDES, problems=(404, 422, 503)),
)
async def get_quarantine(
    number: Annotated[int, Path(ge=1, le=2**63 - 1, description="Its `id`.")], service: TheService
) -> Response:
    """The entry with its whole payload, or 404."""
    async with service.reading() as connection:
        found = await quarantine.entry(connection, number)
    if found is None:
        raise not_found("quarantine entry", str(number))
    return json_response(_row(found))


def _row(entry: Entry) -> dict[str, Any]:
    payload, encoding = _payload(entry)
    return {
        "id": entry.id,
        "received_at": format_utc(entry.received_at),
        "domain": entry.domain,
        "device_id": entry.device_id,
        "reason": entry.reason,
        "detail": entry.detail,
        "topic": entry.topic,
        "position": entry.position,
        "payload": payload,
        "payload_encoding": encoding,
        "payload_bytes": entry.payload_bytes,
    }


def _payload(entry: Entry) -> tuple[str, str]:
    try:
        return entry.payload.decode(), "text"
    except UnicodeDecodeError as error:
        # A character of up to four bytes may have been cut in two.
        if len(entry.payload) < entry.payload_bytes and error.start >= len(entry.payload) - 3:
            return entry.payload[: error.start].decode(), "text"
        return base64.b64encode(entry.payload).decode(), "base64"
