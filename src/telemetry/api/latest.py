"""`GET /v1/{domain}/latest`: the last value of each metric of each device, its age, online or silent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response

from telemetry.api.bodies import joined
from telemetry.api.documentation import documented
from telemetry.api.latest_rows import LatestRows
from telemetry.api.paging import Cursor, Limit, decode, encode, page_size
from telemetry.api.parameters import Devices, Metrics, StrictRoute, Tz, Zones
from telemetry.api.schemas import ANY_NUMBER, ANY_TEXT, NEXT, mapping, schema_of
from telemetry.api.service import TheDomain, TheService
from telemetry.query.instants import format_instant, instant, microseconds, parse_instant
from telemetry.query.latest import Wanted, blocks
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
        overrides=NEXT
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
    time_zone = service.zone(tz)
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
    rows, count, last = LatestRows(wanted.metrics, now, time_zone), 0, ""
    pieces: list[bytes] = []
    async with service.reading() as connection:
        async for block in blocks(connection, wanted):
            pieces.append(rows.text(block).encode())
            count, last = count + len(block.device_ids), block.device_ids[-1]
    meta = {
        "domain": domain.name,
        "tz": time_zone.key,
        "as_of": format_instant(now, time_zone),
        "since": format_instant(wanted.since, time_zone),
        "next": _cursor(last, searched_from) if count == limit else None,
    }
    return joined(meta, pieces)


def _place(cursor: str | None) -> tuple[str, datetime] | None:
    """What a cursor continues: the last device, and since when the first page searched, for `-7d` is another by now."""
    values = decode(cursor, str, int)
    return None if values is None else (values[0], instant(values[1]))


def _cursor(device_id: str, searched_from: datetime) -> str:
    return encode([device_id, microseconds(searched_from)])
