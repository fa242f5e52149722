"""`GET /v1/{domain}/series`: aggregated time windows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from telemetry.api.bodies import json_response
from telemetry.api.documentation import documented
from telemetry.api.parameters import Devices, End, Metrics, Start, StrictRoute, Tz, Zones
from telemetry.api.service import TheDomain, TheService
from telemetry.query.instants import format_instant
from telemetry.query.plan import Plan
from telemetry.query.question import Asked, By, understand
from telemetry.query.series import Series, answer

router = APIRouter(prefix="/v1", tags=["series"], route_class=StrictRoute)


@router.get(
    "/{domain}/series",
    summary="Aggregated time windows",
    **documented(
        {
            "meta": {
                "domain": "lighting",
                "metrics": [{"name": "power_w", "unit": "W", "kind": "gauge", "aggregates": ["avg", "max"]}],
                "window": "1h",
                "tz": "Europe/Paris",
                "start": "2026-10-25T02:00:00+02:00",
                "end": "2026-10-25T03:00:00+01:00",
                "by": "zone",
                "source": "lighting_1h",
                "as_of": "2026-11-24T16:40:23+01:00",
            },
            "data": [
                {
                    "bucket": f"2026-10-25T02:00:00+0{offset}:00",
                    "zone": "Centre",
                    "metric": "power_w",
                    "avg": 41.5,
                    "max": 42.0,
                    "samples": 240,
                    "coverage": None,
                }
                for offset in (2, 1)
            ],
        },
        questions={
            "The lighting power of each zone, hour by hour": (
                "/v1/lighting/series?metric=power_w&start=-24h&window=1h&by=zone"
            ),
            "The mean and the peak power of the meters, a quarter of an hour at a time": (
                "/v1/energy/series?metric=active_power_w&agg=avg&agg=max&start=-6h&window=15m"
            ),
            "How full each container was at the end of each day": (
                "/v1/waste/series?metric=fill_level_pct&agg=last&start=-7d&window=1d&by=device"
            ),
            "The spots that were taken, by the days of Kolkata, with the plan": (
                "/v1/parking/series?metric=occupied_spots&start=-3d&window=1d&tz=Asia/Kolkata&explain=true"
            ),
        },
        problems=(404, 422, 503),
    ),
)
async def series(
    domain: TheDomain,
    service: TheService,
    metric: Metrics = (),
    start: Start = "-24h",
    end: End = "now",
    window: Annotated[
        str, Query(description="Width of a bucket: `15m`, `1h`, `1d`, `1w`, `1mo`, `1y`, or ISO 8601 (`PT15M`).")
    ] = "1h",
    agg: Annotated[
        tuple[str, ...], Query(description="`avg`, `min`, `max`, `sum`, `count`, `first`, `last`. Repeatable.")
    ] = (),
    by: Annotated[
        str, Query(description="One row per bucket for all (`none`), each `device` or each `zone`.")
    ] = "none",
    device: Devices = (),
    zone: Zones = (),
    tz: Tz = None,
    fill: Annotated[str, Query(description="`none`: buckets without values are absent.")] = "none",
    max_gap: Annotated[str | None, Query(description="Not available yet.")] = None,
    explain: Annotated[
        bool, Query(description="Adds the plan to `meta`: relations and the spans read from each.")
    ] = False,
) -> Response:
    """One row per bucket, group and metric, in this order. Windows follow the calendar of `tz`; a bucket's label is its
    start, with the offset, so that both passes of the hour that the clocks repeat can be told apart. Roll-ups are read
    only where they give exactly the answer of the raw rows.
    """
    asked = Asked(metric, agg, start, end, window, tz, by, device, zone, fill, max_gap)
    question = understand(domain, asked, service.settings.timezone, datetime.now(UTC))
    async with service.reading() as connection:
        found = await answer(connection, question, service.settings.api.max_values)
    meta = _meta(found.plan) | ({"plan": _explained(found.plan)} if explain else {})
    return json_response(list(_rows(found)), meta)


def _meta(plan: Plan) -> dict[str, Any]:
    question = plan.question
    return {
        "domain": question.domain.name,
        "metrics": [
            {
                "name": metric.name,
                "unit": metric.unit,
                "kind": metric.kind,
                "aggregates": question.aggregates[metric.name],
            }
            for metric in question.metrics
        ],
        "window": str(question.window),
        "tz": question.zone.key,
        "start": format_instant(question.start, question.zone),
        "end": format_instant(question.end, question.zone),
        "by": question.by,
        "source": plan.source,
        "as_of": format_instant(question.now, question.zone),
    }


def _explained(plan: Plan) -> list[dict[str, Any]]:
    zone = plan.question.zone
    return [
        {
            "relation": f"{plan.question.domain.name}_{segment.relation}",
            "spans": [[format_instant(start, zone), format_instant(end, zone)] for start, end in segment.spans],
        }
        for segment in plan.segments
    ]


def _rows(found: Series) -> Iterator[dict[str, Any]]:
    """One row per bucket, group and metric that has values."""
    question = found.plan.question
    labels = [format_instant(edge, question.zone) for edge in found.plan.edges]
    expected = _expected_seconds(found.plan)
    group_name = {By.NONE: None, By.DEVICE: "device_id", By.ZONE: "zone"}[question.by]
    columns, position = [], 2
    for metric in question.metrics:
        names = [aggregate.value for aggregate in question.aggregates[metric.name]]
        columns.append((metric.name, position, slice(position + 1, position + 1 + len(names)), names))
        position += 1 + len(names)
    for record in found.rows:
        bucket = record[0] - 1
        group = {"bucket": labels[bucket]} if group_name is None else {"bucket": labels[bucket], group_name: record[1]}
        interval = record[-1] if question.by is By.DEVICE else None
        for name, count, cells, names in columns:
            if samples := record[count]:
                coverage = None
                if interval is not None and (seconds := expected[bucket]):
                    coverage = min(1.0, round(samples * interval / seconds, 4))
                yield {
                    **group,
                    "metric": name,
                    **dict(zip(names, record[cells], strict=True)),
                    "samples": samples,
                    "coverage": coverage,
                }


def _expected_seconds(plan: Plan) -> list[float]:
    """Seconds of each bucket that lie within the range and are over."""
    question = plan.question
    first, last = question.start, min(question.end, question.now)
    pairs = zip(plan.edges, plan.edges[1:], strict=False)
    return [max(timedelta(0), min(end, last) - max(start, first)).total_seconds() for start, end in pairs]
