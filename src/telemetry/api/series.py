"""`GET /v1/{domain}/series`: aggregated time windows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from telemetry.api import caching, formats
from telemetry.api.columns import series_batches, series_schema
from telemetry.api.csv_rows import csv_rows, header
from telemetry.api.dialects import Dialect
from telemetry.api.documentation import documented
from telemetry.api.encoding import json_rows
from telemetry.api.formats import SEPARATORS, Body, TextBody, complete_header
from telemetry.api.negotiation import OTHER_TYPES, Format, TheFormat
from telemetry.api.parameters import Devices, End, Metrics, Start, StrictRoute, Tz, Zones
from telemetry.api.schemas import ANY_NUMBER, ANY_TEXT, INTEGER, TEXT, nullable, rows_of
from telemetry.api.service import TheDomain, TheService, UntilSent
from telemetry.api.tables import table_body
from telemetry.domains import Metric
from telemetry.query.aggregates import Aggregate, Family
from telemetry.query.answering import Streaming, answer
from telemetry.query.instants import format_instant
from telemetry.query.plan import Plan
from telemetry.query.question import Asked, Question, understand
from telemetry.query.series import Series
from telemetry.query.turns import portions
from telemetry.spans import Span

router = APIRouter(prefix="/v1", tags=["series"], route_class=StrictRoute)

_AGGREGATES = (
    "Gauges: `avg`, `min`, `max`, `sum`, `count`, `first`, `last`, `stddev`, `p50` … `p99`, `time_avg`, `integral`. "
    "Counters: `increase`, `rate` (per hour), and those of rows up to `last`. States: `share`, `duration` (seconds), "
    "`time_avg` of booleans, `count`, `first`, `last`. Default: that of the metric's kind. Repeatable."
)
_COMBINE = (
    "How several devices become one value: all `rows` alike, or one value for each device first and then their `sum` "
    "or `mean`. `meta` tells what was done."
)
_FILL = (
    "What stands in a bucket without values: `none` leaves it out, `null`, `zero`, `locf` carries the last value "
    "forward, `linear` draws a line between neighbours. Values from outside of the range reach into it if `max_gap` "
    "says how far."
)


@router.get(
    "/{domain}/series",
    summary="Aggregated time windows",
    **documented(
        {
            "meta": {
                "domain": "lighting",
                "metrics": [
                    {
                        "name": "power_w",
                        "unit": "W",
                        "kind": "gauge",
                        "aggregates": [
                            {"name": "avg", "unit": "W", "combine": "rows"},
                            {"name": "max", "unit": "W", "combine": "rows"},
                        ],
                    }
                ],
                "window": "1h",
                "tz": "Europe/Paris",
                "start": "2026-10-25T02:00:00+02:00",
                "end": "2026-10-25T03:00:00+01:00",
                "by": "zone",
                "fill": "none",
                "source": "lighting_1h",
                "as_of": "2026-11-24T16:40:23.106322+01:00",
                "closed_until": "2026-11-24T16:30:00+01:00",
                "settled_until": None,
                "complete_from": None,
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
            "The energy that the buildings took, day by day": (
                "/v1/energy/series?metric=energy_import_kwh&start=-2d&window=1d"
            ),
            "How long the lamps were lit, and with which faults": (
                "/v1/lighting/series?metric=lamp_on&metric=fault&agg=share&agg=duration&start=-24h&window=6h"
            ),
            "The total power of the lamps of each zone, gaps filled": (
                "/v1/lighting/series?metric=power_w&combine=sum&by=zone&start=-6h&window=15m&fill=locf&max_gap=1h"
            ),
            "The usual and the extreme power of the meters, where at least half of the values came": (
                "/v1/energy/series?metric=active_power_w&agg=p50&agg=p99&percentile=99.9&min_coverage=0.5"
            ),
            "How full each container was at the end of each day": (
                "/v1/waste/series?metric=fill_level_pct&agg=last&start=-7d&window=1d&by=device"
            ),
            "The spots that were taken, by the days of Kolkata, with the plan": (
                "/v1/parking/series?metric=occupied_spots&start=-3d&window=1d&tz=Asia/Kolkata&explain=true"
            ),
        },
        problems=(404, 406, 422, 503),
        forms=OTHER_TYPES,
        overrides={
            "closed_until": ANY_TEXT,
            "settled_until": ANY_TEXT,
            "complete_from": ANY_TEXT,
            "data": rows_of(
                {"bucket": TEXT, "metric": TEXT, "samples": INTEGER, "coverage": ANY_NUMBER},
                {"device_id": TEXT, "zone": ANY_TEXT, "quality": ANY_TEXT, "filled": {"type": "boolean"}},
                # The aggregates: numbers, states, or seconds and shares by state.
                nullable("number", "boolean", "string", "object"),
            ),
        },
        unchanged=True,
    ),
)
async def series(
    request: Request,
    domain: TheDomain,
    service: TheService,
    form: TheFormat,
    until_sent: UntilSent,
    metric: Metrics = (),
    start: Start = "-24h",
    end: End = "now",
    window: Annotated[
        str, Query(description="Width of a bucket: `15m`, `1h`, `1d`, `1w`, `1mo`, `1y`, or ISO 8601 (`PT15M`).")
    ] = "1h",
    agg: Annotated[tuple[str, ...], Query(description=_AGGREGATES)] = (),
    percentile: Annotated[
        tuple[float, ...],
        Query(description="Percentiles of gauges, 0 to 100; `percentile=95` is `agg=p95`. Repeatable."),
    ] = (),
    by: Annotated[
        str, Query(description="One row per bucket for all (`none`), each `device` or each `zone`.")
    ] = "none",
    combine: Annotated[str | None, Query(description=_COMBINE)] = None,
    device: Devices = (),
    zone: Zones = (),
    tz: Tz = None,
    fill: Annotated[str, Query(description=_FILL)] = "none",
    max_gap: Annotated[
        str | None,
        Query(
            description="How far a value reaches, `2h` or `PT2H`: when buckets are filled, and in `time` aggregates."
        ),
    ] = None,
    min_coverage: Annotated[
        float | None, Query(description="0 to 1: values of buckets whose coverage is known to be less are null.")
    ] = None,
    coverage: Annotated[
        bool, Query(description="Coverage for zones and for all, too; by device it is always there.")
    ] = False,
    reset: Annotated[
        str,
        Query(description="A counter that fell went on from `zero`, or with the `first` value it showed (new meter)."),
    ] = "zero",
    explain: Annotated[
        bool, Query(description="Adds the plan to `meta`: relations, the spans read from each, about how many rows.")
    ] = False,
) -> Response:
    """One row per bucket, group and metric, in this order. Windows follow the calendar of `tz`; a bucket's label is its
    start, with the offset, so that both passes of the hour that the clocks repeat can be told apart. Roll-ups are read
    only where they give exactly the answer of the raw rows. A range whose raw rows would be needed and are not kept any
    more (`retention.readings`) is refused: 422 `not-kept`, with `kept_from` and what can be asked instead.
    `meta.complete_from` (header `Telemetry-Complete-From`), where it is not null, is up to when what lasts from
    readings before the range may be missing, because these are not kept.
    """
    asked = Asked(
        metric=metric,
        agg=agg,
        start=start,
        end=end,
        window=window,
        tz=tz,
        by=by,
        device=device,
        zone=zone,
        fill=fill,
        max_gap=max_gap,
        min_coverage=min_coverage,
        coverage=coverage,
        percentile=percentile,
        combine=combine,
        reset=reset,
    )
    question = understand(domain, asked, service.settings.timezone, datetime.now(UTC))
    limits = service.settings.api
    connection = await until_sent.enter_async_context(service.reading())
    # What may not be read at once may still be streamed.
    most = min(formats.WHOLE_VALUES, limits.max_values)
    at_once = min(formats.WHOLE, max(1, most // question.values_per_bucket))
    streaming = Streaming(at_once, limits.max_streamed_values)
    found = await answer(connection, question, limits.max_values, streaming, bound=service.bound(explain))
    if found.rest is None:
        await until_sent.aclose()
    else:
        until_sent.enter_context(service.streaming())
    fixed = caching.is_fixed(asked, question)
    meta = _meta(found) | (_explained(found) if explain else {})
    headers = {
        "Cache-Control": caching.cache_control(question, found.scope, fixed, service.settings.ingest.max_lateness),
        "Vary": "Accept",
        "Telemetry-As-Of": meta["as_of"],
        **complete_header(meta),
    }
    return await _response(request, form, found, meta, headers, fixed, limits.stream_timeout)


async def _response(
    request: Request,
    form: Format,
    found: Series,
    meta: dict[str, Any],
    headers: dict[str, str],
    fixed: bool,
    within: timedelta,
) -> Response:
    """The answer; 304 where the asker has it."""
    body, encode = _written(form, found.plan.question, meta)
    size = len(found.rows) if found.rows is not None else len(found.made)
    if found.rest is not None or size > formats.WHOLE or found.values > formats.WHOLE_VALUES:
        return formats.streamed(form, body, _encoded(found, encode), headers, within)
    pieces = [each async for each in _encoded(found, encode)]
    if fixed:
        # Of a table the batches, for its first bytes hold what may differ while the answer is the same.
        serialized = (each.serialize() if form.is_table else "\n".join(each).encode() for each in pieces)
        etag = await caching.tag(meta, chain([form.encode()], serialized))
        if known := caching.unchanged(request, etag, headers):
            return known
        headers = {**headers, "ETag": etag}
    return await formats.whole(form, body, pieces, headers)


async def _encoded(found: Series, encode: Callable[[Series], Iterator[Any]]) -> AsyncIterator[Any]:
    """The rows of an answer, a portion at a time; others have their turn in between."""
    async for part in found.parts():
        async for (each,) in portions(encode(part), 1):
            yield each


def _written(
    form: Format, question: Question, meta: dict[str, Any]
) -> tuple[Body[Any], Callable[[Series], Iterator[Any]]]:
    """What writes an answer of that form, and what makes the rows that it takes."""
    if form.is_table:
        schema = series_schema(question, meta)
        return table_body(form, schema), partial(series_batches, schema=schema)
    dialect = Dialect(is_excel=form is Format.EXCEL)
    rows = partial(csv_rows, dialect=dialect) if form.is_csv else partial(json_rows, separator=SEPARATORS[form])
    return TextBody(form, meta, header(question, dialect)), rows


def _meta(found: Series) -> dict[str, Any]:
    plan, scope = found.plan, found.scope
    question = plan.question
    return {
        "domain": question.domain.name,
        "metrics": [_metric(metric, question.aggregates[metric.name]) for metric in question.metrics],
        "window": str(question.window),
        "tz": question.zone.key,
        "start": format_instant(question.start, question.zone),
        "end": format_instant(question.end, question.zone),
        "by": question.by,
        "fill": question.fill,
        "source": _source(plan),
        "as_of": format_instant(min(question.now, scope.as_of), question.zone),
        "closed_until": scope.closed_until and format_instant(scope.closed_until, question.zone),
        "settled_until": found.settled_until and format_instant(found.settled_until, question.zone),
        "complete_from": found.complete_from and format_instant(found.complete_from, question.zone),
    }


def _metric(metric: Metric, aggregates: Sequence[Aggregate]) -> dict[str, Any]:
    return {
        "name": metric.name,
        "unit": metric.unit,
        "kind": metric.kind,
        "aggregates": [{"name": each.name, "unit": each.unit(metric), "combine": each.combine} for each in aggregates],
    }


def _source(plan: Plan) -> str:
    """The relations that were read, joined by `+`."""
    question = plan.question
    read: list[str] = [each.relation for each in plan.changes if question.chosen(Family.CHANGE)]
    read += ["readings"] if question.chosen(Family.SPREAD, Family.TIME) else []
    relations = plan.source.split("+") + [f"{question.domain.name}_{relation}" for relation in read]
    return "+".join(dict.fromkeys(relations))


def _explained(series: Series) -> dict[str, Any]:
    """What is read from where; some aggregates read raw rows beside what `samples` and the others are made of."""
    plan, cost = series.plan, series.cost
    question, domain = plan.question, plan.question.domain.name
    assert cost is not None

    def as_read(relation: str, spans: Iterable[Span], rows: int, **more: Any) -> dict[str, Any]:
        instants = [[format_instant(instant, question.zone) for instant in span] for span in spans]
        return {"relation": f"{domain}_{relation}", "spans": instants, "rows": rows, **more}

    found = [
        as_read(segment.relation, segment.spans, rows)
        for segment, rows in zip(plan.segments, cost.segments, strict=True)
    ]
    changes = _names(question, Family.CHANGE)
    found += [
        as_read(segment.relation, segment.spans, rows, aggregates=changes)
        for segment, rows in zip(plan.changes, cost.changes, strict=False)
    ]
    if beyond := _names(question, Family.SPREAD, Family.TIME):
        found.append(as_read("readings", [(question.start, question.end)], cost.beyond, aggregates=beyond))
    return {"plan": found, "rows_read": {"estimate": cost.rows, "limit": cost.limit}}


def _names(question: Question, *families: Family) -> list[str]:
    every = chain.from_iterable(question.chosen(*families).values())
    return list(dict.fromkeys(each.name for each in every))
