"""`/v1/devices/{device_id}/meter-swaps`: meters of a device that were replaced, with the indexes at which."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import ConfigDict, Field

from telemetry.api.bodies import json_response
from telemetry.api.devices import DeviceId
from telemetry.api.documentation import documented
from telemetry.api.parameters import StrictBody, StrictRoute
from telemetry.api.problems import not_found
from telemetry.api.schemas import ANY_NUMBER
from telemetry.api.service import Service, TheService
from telemetry.domains import Kind, Metric
from telemetry.errors import InvalidQuery
from telemetry.query import devices as registered
from telemetry.query import meter_swaps as declared
from telemetry.query.database import Connection
from telemetry.query.instants import FIXED, format_utc, parse_fixed
from telemetry.query.scope import find_kept_from
from telemetry.query.steps import rolled_over
from telemetry.store import meter_swaps

router = APIRouter(prefix="/v1", tags=["devices"], route_class=StrictRoute)

_DAY = timedelta(days=1)
_PATH = "/devices/{device_id}/meter-swaps/{counter}/{time}"
_EXAMPLE = {
    "domain": "energy",
    "metric": "energy_import_kwh",
    "time": "2026-11-20T09:30:00Z",
    "start_index": 0.4,
    "final_index": 48213.7,
    "declared_at": "2026-11-24T15:40:23Z",
}
_OVERRIDES = {"final_index": ANY_NUMBER}

Counter = Annotated[
    str,
    Path(
        pattern=r"^[^\x00]*$",
        description="A counter of the domain that the device is at home in.",
        examples=["energy_import_kwh"],
    ),
]
Time = Annotated[
    str, Path(description="When the meter was replaced: RFC 3339 with an offset.", examples=["2026-11-20T09:30:00Z"])
]


class SwapBody(StrictBody):
    """The indexes at which a meter was replaced, in the unit of the metric."""

    model_config = ConfigDict(
        strict=True,  # as ingest takes numbers: neither true nor "12.5"
        allow_inf_nan=False,
        json_schema_extra={"examples": [{"start_index": 0.4, "final_index": 48213.7}]},
    )

    start_index: float = Field(ge=0, description="What the new meter began with.")
    final_index: float | None = Field(
        None, ge=0, description="What the old meter ended with; left out, it counts up to its last reading."
    )


@router.get(
    "/devices/{device_id}/meter-swaps",
    summary="Meters of a device that were replaced",
    **documented({"data": [_EXAMPLE]}, overrides=_OVERRIDES, problems=(404, 422, 503)),
)
async def list_swaps(device_id: DeviceId, service: TheService) -> Response:
    """In order of metric and time."""
    async with service.reading() as connection:
        await _device(connection, device_id)
        found = await declared.swaps(connection, device_id)
    return json_response([_row(each) for each in found])


@router.get(
    _PATH, summary="One meter swap", **documented({"data": _EXAMPLE}, overrides=_OVERRIDES, problems=(404, 422, 503))
)
async def get_swap(device_id: DeviceId, counter: Counter, time: Time, service: TheService) -> Response:
    """The swap of that counter at that instant, or 404."""
    at = parse_fixed("time", time)
    async with service.reading() as connection:
        await _device(connection, device_id)
        found = await declared.swaps(connection, device_id, counter, at)
    if not found:
        raise not_found("meter swap", f"{counter}/{time}")
    return json_response(_row(found[0]))


@router.put(
    _PATH,
    summary="Declare that a meter was replaced",
    **documented({"data": _EXAMPLE}, overrides=_OVERRIDES, also=(201,), problems=(400, 404, 422, 503)),
)
async def put_swap(device_id: DeviceId, counter: Counter, time: Time, body: SwapBody, service: TheService) -> Response:
    """Readings from that instant on are those of the new meter: `increase` and `rate` count the old one up to its final
    index and the new one from its start index, at once and for all ranges. 201 for a new swap; one of the same counter
    and instant is replaced. Where the bucket was closed, `/v1/{domain}/changes` tells.
    """
    at = _changeable(service, time)
    async with service.connection() as connection:
        device = await _device(connection, device_id)
        await _refuse_gone(connection, device.domain, time, at)
        metric = _counter(service, device.domain, counter)
        for name, index in body.model_dump().items():
            _refuse_beyond(metric, name, index)
        around = await declared.indexes_around(connection, device_id, device.domain, counter, at)
        _refuse_fall(metric, body, *around)
        swap = meter_swaps.Swap(device_id, device.domain, counter, at, **body.model_dump())
        added = await meter_swaps.declare(connection, swap)
        (found,) = await declared.swaps(connection, device_id, counter, at)
    return json_response(_row(found), status=HTTPStatus.CREATED if added else HTTPStatus.OK)


@router.delete(
    _PATH,
    summary="Withdraw a meter swap",
    status_code=HTTPStatus.NO_CONTENT,
    **documented(None, problems=(404, 422, 503), status=204),
)
async def delete_swap(device_id: DeviceId, counter: Counter, time: Time, service: TheService) -> Response:
    """The counter is judged by its readings alone again."""
    at = _changeable(service, time)
    async with service.connection() as connection:
        device = await _device(connection, device_id)
        await _refuse_gone(connection, device.domain, time, at)
        if not await meter_swaps.withdraw(connection, device_id, counter, at):
            raise not_found("meter swap", f"{counter}/{time}")
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def _device(connection: Connection, device_id: str) -> registered.Registered:
    found = await registered.one(connection, device_id)
    if found is None:
        raise not_found("device", device_id)
    return found


def _changeable(service: Service, text: str) -> datetime:
    """The instant of a swap: past, and so near that the roll-ups around it can still be made anew."""
    at, now = parse_fixed("time", text), datetime.now(UTC)
    if at > now:
        raise InvalidQuery("time", text, "is in the future; a swap is declared once it took place", FIXED)
    oldest = now - service.settings.retention.readings + _DAY
    if at < oldest:
        raise _gone(text, oldest)
    return at


async def _refuse_gone(connection: Connection, domain: str, text: str, at: datetime) -> None:
    """Refuses an instant whose readings were dropped, whatever the settings say: roll-ups would be emptied."""
    kept_from = await find_kept_from(connection, domain)
    if kept_from is not None and at < kept_from:
        raise _gone(text, kept_from)


def _gone(text: str, oldest: datetime) -> InvalidQuery:
    detail = "is so long ago that its readings are no longer kept (retention.readings)"
    return InvalidQuery("time", text, detail, (f"from {format_utc(oldest)} on",))


def _counter(service: Service, domain: str, name: str) -> Metric:
    counters = {each.name: each for each in service.domain(domain).metrics.values() if each.kind is Kind.COUNTER}
    if name not in counters:
        detail = f"{domain}, where the device is at home, has no such counter"
        raise InvalidQuery("counter", name, detail, tuple(counters))
    return counters[name]


def _refuse_beyond(metric: Metric, name: str, index: float | None) -> None:
    if index is not None and metric.maximum is not None and index > metric.maximum:
        allowed = (f"0 to {metric.maximum:g} {metric.unit}",)
        raise InvalidQuery(name, index, f"is outside the valid range of {metric.name}", allowed)


def _refuse_fall(metric: Metric, body: SwapBody, last: declared.Index | None, first: declared.Index | None) -> None:
    """Refuses indexes between which and the readings next to them a meter would have to run backwards."""
    final, start, unit = body.final_index, body.start_index, metric.unit
    if final is not None and last is not None and final < last[1] and not rolled_over(last[1], final):
        detail = f"is less than what the old meter showed last, {last[1]:g} {unit} at {format_utc(last[0])}"
        raise InvalidQuery("final_index", final, detail, (f"from {last[1]!r} {unit} on", "left out, if not known"))
    if first is not None and first[1] < start and not rolled_over(start, first[1]):
        detail = f"is more than what the new meter showed first, {first[1]:g} {unit} at {format_utc(first[0])}"
        raise InvalidQuery("start_index", start, detail, (f"up to {first[1]!r} {unit}",))


def _row(swap: declared.Declared) -> dict[str, Any]:
    return {**asdict(swap), "time": format_utc(swap.time), "declared_at": format_utc(swap.declared_at)}
