"""`GET /v1/{domain}/readings`: raw rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import asyncpg
from fastapi import APIRouter, Query, Response

from telemetry.api.bodies import json_response
from telemetry.api.documentation import documented
from telemetry.api.paging import Cursor, Limit, decode, encode, page_size
from telemetry.api.parameters import Devices, End, Metrics, Start, StrictRoute, Tz, Zones
from telemetry.api.service import TheDomain, TheService
from telemetry.domains import Metric
from telemetry.errors import InvalidQuery
from telemetry.query.instants import EARLIEST, format_instant, parse_zone
from telemetry.query.question import choose_metrics, parse_range
from telemetry.query.readings import Place, Wanted, page

router = APIRouter(prefix="/v1", tags=["readings"], route_class=StrictRoute)

_MICROSECOND = timedelta(microseconds=1)


@router.get(
    "/{domain}/readings",
    summary="Raw rows",
    **documented(
        {
            "meta": {
                "domain": "lighting",
                "tz": "Europe/Paris",
                "start": "2026-11-24T15:40:23+01:00",
                "end": "2026-11-24T16:40:23+01:00",
                "order": "asc",
                "next": "WzE3OTU1MzE1MjMxMjg3NjgsMl0",
            },
            "data": [
                {
                    "time": "2026-11-24T15:45:00+01:00",
                    "received_at": "2026-11-24T15:45:00.213+01:00",
                    "device_id": "lamp-0012",
                    "power_w": 41.5,
                    "attributes": {"firmware": "1.4"},
                }
            ],
        },
        questions={
            "The newest hundred readings of the lamps": "/v1/lighting/readings?start=-24h&order=desc&limit=100",
            "The power and index of the meters in the last ten minutes": (
                "/v1/energy/readings?metric=active_power_w&metric=energy_import_kwh&start=-10m"
            ),
        },
        problems=(404, 422, 503),
    ),
)
async def readings(
    domain: TheDomain,
    service: TheService,
    metric: Metrics = (),
    start: Start = "-1h",
    end: End = "now",
    device: Devices = (),
    zone: Zones = (),
    order: Annotated[Literal["asc", "desc"], Query(description="Order of time.")] = "asc",
    tz: Tz = None,
    limit: Limit = 1000,
    cursor: Cursor = None,
) -> Response:
    """Rows as they were stored, in order of time. `null` is a metric that the reading did not have; `attributes` are
    the fields that the domain does not know. With `metric`, rows that have at least one of these.
    """
    now = datetime.now(UTC)
    first, last = parse_range(start, end, now)
    shown = parse_zone("tz", tz or service.settings.timezone)
    wanted = Wanted(
        domain,
        choose_metrics(domain, metric) or tuple(domain.metrics.values()),
        first,
        last,
        device,
        zone,
        present_only=bool(metric),
        newest_first=order == "desc",
        after=_place(cursor),
        limit=page_size(service, limit),
    )
    async with service.reading() as connection:
        rows = await page(connection, wanted)
    meta = {
        "domain": domain.name,
        "tz": shown.key,
        "start": format_instant(first, shown),
        "end": format_instant(last, shown),
        "order": order,
        "next": _cursor(rows[-1]) if len(rows) == limit else None,
    }

    def row(record: asyncpg.Record) -> dict[str, Any]:
        time, _, received_at, device_id, attributes, *values = record
        return {
            "time": format_instant(time, shown),
            "received_at": format_instant(received_at, shown),
            "device_id": device_id,
            **_named(wanted.metrics, values),
            "attributes": None if attributes is None else json.loads(attributes),
        }

    return json_response([row(record) for record in rows], meta)


def _named(metrics: Sequence[Metric], values: Sequence[Any]) -> dict[str, Any]:
    return {metric.name: value for metric, value in zip(metrics, values, strict=True)}


def _place(cursor: str | None) -> Place | None:
    place = decode(cursor, int, int)
    if place is None:
        return None
    try:
        at = EARLIEST + place[0] * _MICROSECOND
    except OverflowError:
        at = None
    if at is None or not 0 <= place[1] < 2**31:
        raise InvalidQuery("cursor", cursor, "is no cursor of this route", ("meta.next of the page before",))
    return Place(at, place[1])


def _cursor(row: asyncpg.Record) -> str:
    return encode([(row[0] - EARLIEST) // _MICROSECOND, row[1]])
