"""`GET /v1/{domain}/latest`: the last value of each metric of each device, its age, online or silent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Response

from telemetry.api.bodies import json_response
from telemetry.api.documentation import documented
from telemetry.api.paging import Cursor, Limit, decode, encode, instant, microseconds, page_size
from telemetry.api.parameters import Devices, Metrics, StrictRoute, Tz, Zones
from telemetry.api.schemas import ANY_NUMBER, ANY_TEXT, NEXT, mapping, schema_of
from telemetry.api.service import TheDomain, TheService
from telemetry.query.instants import format_instant, parse_instant
from telemetry.query.latest import Latest, Wanted, page
from telemetry.query.question import choose_metrics

router = APIRouter(prefix="/v1", tags=["latest"], route_class=StrictRoute)

_VALUE = {"value": 41.5, "time": "2026-11-24T16:30:00+01:00", "age_s": 623.0}


@router.get(
    "/{domain}/latest",
    summary="Last value per device, its age, online or silent",
    **documented(
        {
            "meta": {
                "domain": "lighting",
                "tz": "Europe/Paris",
                "as_of": "2026-11-24T16:40:23+01:00",
                "since": "2026-11-17T16:40:23+01:00",
                "next": None,
            },
            "data": [
                {
                    "device_id": "lamp-0012",
                    "name": "Lamp 12",
                    "zone": "Centre",
                    "latitude": 48.8566,
                    "longitude": 2.3522,
                    "interval_s": 900.0,
                    "status": "online",
                    "time": "2026-11-24T16:30:00+01:00",
                    "received_at": "2026-11-24T16:30:00.213+01:00",
                    "age_s": 623.0,
                    "values": {"power_w": _VALUE},
                }
            ],
        },
        told=NEXT
        | dict.fromkeys(("name", "zone", "time", "received_at"), ANY_TEXT)
        | dict.fromkeys(("latitude", "longitude", "interval_s", "age_s"), ANY_NUMBER)
        | {"values": mapping(schema_of(_VALUE, {"value": {"type": ["number", "boolean", "string"]}}))},
        questions={
            "The last values of every lamp": "/v1/lighting/latest",
            "How full the containers are": "/v1/waste/latest?metric=fill_level_pct",
        },
        problems=(404, 422, 503),
    ),
)
async def latest(
    domain: TheDomain,
    service: TheService,
    metric: Metrics = (),
    device: Devices = (),
    zone: Zones = (),
    since: Annotated[str, Query(description="How far back values are looked for.")] = "-7d",
    tz: Tz = None,
    limit: Limit = 1000,
    cursor: Cursor = None,
) -> Response:
    """One row per device at home in the domain, and per device that is named, in order of their ids. A device is
    `silent` when its newest reading is older than three of its intervals or, where its interval is not known, than an
    hour; otherwise it is `online`. Without any reading since `since`, its `time` is null.
    """
    now = datetime.now(UTC)
    shown = service.zone(tz)
    after, searched_from = _place(cursor) or ("", parse_instant("since", since, now))
    wanted = Wanted(
        domain,
        choose_metrics(domain, metric) or tuple(domain.metrics.values()),
        searched_from,
        device,
        zone,
        after,
        page_size(service, limit),
    )
    async with service.reading() as connection:
        found = await page(connection, wanted)
    meta = {
        "domain": domain.name,
        "tz": shown.key,
        "as_of": format_instant(now, shown),
        "since": format_instant(wanted.since, shown),
        "next": _cursor(found[-1].device_id, searched_from) if len(found) == limit else None,
    }
    return json_response([_row(each, now, shown) for each in found], meta)


def _place(cursor: str | None) -> tuple[str, datetime] | None:
    """What a cursor continues: the last device, and since when the first page searched, for `-7d` is another by now."""
    values = decode(cursor, str, int)
    return None if values is None else (values[0], instant(values[1]))


def _cursor(device_id: str, searched_from: datetime) -> str:
    return encode([device_id, microseconds(searched_from)])


def _row(found: Latest, now: datetime, shown: ZoneInfo) -> dict[str, Any]:
    newest = found.time
    # Most values are of the newest reading; its time is written once.
    time, age_s = (None, None) if newest is None else (format_instant(newest, shown), _age_s(newest, now))
    return {
        "device_id": found.device_id,
        "name": found.name,
        "zone": found.zone,
        "latitude": found.latitude,
        "longitude": found.longitude,
        "interval_s": found.interval_s,
        "status": "online" if found.is_online(now) else "silent",
        "time": time,
        "received_at": None if found.received_at is None else format_instant(found.received_at, shown),
        "age_s": age_s,
        "values": {
            name: {"value": value, "time": time, "age_s": age_s}
            if at is newest
            else {"value": value, "time": format_instant(at, shown), "age_s": _age_s(at, now)}
            for name, (at, value) in found.values.items()
        },
    }


def _age_s(time: datetime, now: datetime) -> float:
    """Seconds; 0 for a device whose clock is ahead."""
    return max(0.0, (now - time).total_seconds())
