"""`GET /v1/{domain}/readings`: raw rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import asyncpg
import pyarrow as pa
from fastapi import APIRouter, Query, Request, Response

from telemetry.api.dialects import Dialect
from telemetry.api.documentation import documented
from telemetry.api.formats import TextBody, complete_header, whole
from telemetry.api.negotiation import OTHER_TYPES, Format, TheFormat
from telemetry.api.paging import Cursor, Limit, decode, encode, foreign, page_size
from telemetry.api.parameters import Devices, End, Metrics, Start, StrictRoute, Tz, Zones
from telemetry.api.reading_rows import FIRST, LAST, batches, csv_texts, json_texts
from telemetry.api.schemas import ANY_TEXT, NEXT, TEXT, nullable, rows_of
from telemetry.api.service import TheDomain, TheService
from telemetry.api.tables import VALUE_TYPES, instants, table_body, with_meta
from telemetry.domains import Metric
from telemetry.query.instants import format_instant, instant, microseconds
from telemetry.query.question import choose_metrics, parse_range
from telemetry.query.readings import Place, Wanted, page
from telemetry.query.scope import find_kept_from

router = APIRouter(prefix="/v1", tags=["readings"], route_class=StrictRoute)


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
                "complete_from": None,
                "next": "WzE3OTU1MzEyMjMwMDAwMDAsMTc5NTUzNDgyMzAwMDAwMCwxNzk1NTMxNTAwMDAwMDAwLDJd",
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
        overrides=NEXT
        | {
            "complete_from": ANY_TEXT,
            "data": rows_of(
                {"time": TEXT, "received_at": TEXT, "device_id": TEXT, "attributes": nullable("object")},
                {},
                nullable("number", "boolean", "string"),
            ),
        },
        questions={
            "The newest hundred readings of the lamps": "/v1/lighting/readings?start=-24h&order=desc&limit=100",
            "The power and index of the meters in the last ten minutes": (
                "/v1/energy/readings?metric=active_power_w&metric=energy_import_kwh&start=-10m"
            ),
        },
        problems=(404, 406, 422, 503),
        forms=OTHER_TYPES,
    ),
)
async def readings(
    request: Request,
    domain: TheDomain,
    service: TheService,
    form: TheFormat,
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
    the fields that the domain does not know. With `metric`, rows that have at least one of these. The next page is
    also told by the header `Link`. `meta.complete_from` (header `Telemetry-Complete-From`) is where rows begin to be
    kept (`retention.readings`), if the range begins before that; otherwise null.
    """
    now = datetime.now(UTC)
    place = _place(cursor)
    first, last = (place.start, place.end) if place else parse_range(start, end, now)
    time_zone = service.zone(tz)
    wanted = Wanted(
        domain,
        choose_metrics(domain, metric) or tuple(domain.metrics.values()),
        first,
        last,
        device,
        zone,
        present_only=bool(metric),
        newest_first=order == "desc",
        after=place.row if place else None,
        limit=page_size(service, limit),
    )
    async with service.reading() as connection:
        found = await page(connection, wanted)
        kept_from = await find_kept_from(connection, domain.name)
    meta = {
        "domain": domain.name,
        "tz": time_zone.key,
        "start": format_instant(first, time_zone),
        "end": format_instant(last, time_zone),
        "order": order,
        "complete_from": None if kept_from is None or first >= kept_from else format_instant(kept_from, time_zone),
        "next": _cursor(first, last, found[-1]) if len(found) == limit else None,
    }
    headers = {"Vary": "Accept", **_link(request, meta["next"]), **complete_header(meta)}
    return await _response(form, found, wanted.metrics, meta, headers)


async def _response(
    form: Format,
    found: Sequence[asyncpg.Record],
    metrics: Sequence[Metric],
    meta: dict[str, Any],
    headers: dict[str, str],
) -> Response:
    zone = ZoneInfo(meta["tz"])
    if form.is_table:
        schema = _schema(metrics, meta)
        return await whole(form, table_body(form, schema), batches(found, metrics, schema), headers)
    if form.is_csv:
        dialect = Dialect(is_excel=form is Format.EXCEL)
        header = dialect.header(*FIRST, *(metric.name for metric in metrics), LAST)
        return await whole(form, TextBody(form, meta, header), csv_texts(found, metrics, zone, dialect), headers)
    return await whole(form, TextBody(form, meta, ""), json_texts(found, metrics, zone), headers)


def _schema(metrics: Sequence[Metric], meta: dict[str, Any]) -> pa.Schema:
    """The columns of JSON with their types; `attributes` are JSON as text."""
    return with_meta(
        [
            pa.field("time", instants(meta["tz"]), nullable=False),
            pa.field("received_at", instants(meta["tz"]), nullable=False),
            pa.field("device_id", pa.string(), nullable=False),
            *(pa.field(metric.name, VALUE_TYPES[metric.value_type]) for metric in metrics),
            pa.field("attributes", pa.string()),
        ],
        meta,
    )


def _link(request: Request, cursor: str | None) -> dict[str, str]:
    """Where the next page is (RFC 8288), for forms that have no `meta`."""
    if cursor is None:
        return {}
    return {"Link": f'<{request.url.include_query_params(cursor=cursor)}>; rel="next"'}


@dataclass(frozen=True, slots=True)
class _Page:
    """What a cursor continues: the range of the first page, for `-1h` would be another one now, and the last row."""

    start: datetime
    end: datetime
    row: Place


def _place(cursor: str | None) -> _Page | None:
    values = decode(cursor, int, int, int, int)
    if values is None:
        return None
    *instants, device_key = values
    if not 0 <= device_key < 2**31:
        raise foreign(cursor)
    start, end, time = map(instant, instants)
    return _Page(start, end, Place(time, device_key))


def _cursor(start: datetime, end: datetime, row: asyncpg.Record) -> str:
    return encode([*map(microseconds, (start, end, row[0])), row[1]])
