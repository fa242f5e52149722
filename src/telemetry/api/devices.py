"""`/v1/devices`: the registry."""

from __future__ import annotations

import re
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import ConfigDict, Field

from telemetry.api.bodies import json_page, json_response
from telemetry.api.documentation import documented
from telemetry.api.paging import Cursor, Limit, decode, encode, page_size
from telemetry.api.parameters import StrictBody, StrictRoute, Zones
from telemetry.api.problems import Problem, not_found
from telemetry.api.schemas import ANY_NUMBER, ANY_TEXT, NEXT
from telemetry.api.service import Service, TheService
from telemetry.errors import InvalidQuery
from telemetry.query import devices as registered
from telemetry.query.database import Connection
from telemetry.query.instants import format_utc
from telemetry.store import devices as registry

router = APIRouter(prefix="/v1", tags=["devices"], route_class=StrictRoute)

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


async def _device_id(
    device_id: Annotated[str, Path(description="1 to 128 characters of `A-Z a-z 0-9 . _ : -`.")],
) -> str:
    if not _ID.fullmatch(device_id):
        allowed = ("1 to 128 characters of A-Z a-z 0-9 . _ : -",)
        raise InvalidQuery("device_id", device_id, "is no device id", allowed)
    return device_id


DeviceId = Annotated[str, Depends(_device_id)]


_EXAMPLE = {
    "device_id": "lamp-0012",
    "domain": "lighting",
    "name": "Lamp 12",
    "zone": "Centre",
    "latitude": 48.8566,
    "longitude": 2.3522,
    "interval_s": 900.0,
    "first_seen": "2026-11-01T08:00:00Z",
    "updated_at": "2026-11-24T15:40:23Z",
    "clock_skew_s": -0.213,
    "clock_seen_at": "2026-11-24T15:30:00Z",
}


_OVERRIDES = dict.fromkeys(("name", "zone", "clock_seen_at"), ANY_TEXT) | dict.fromkeys(
    ("latitude", "longitude", "interval_s", "clock_skew_s"), ANY_NUMBER
)

_TEXT = r"^[^\x00]*$"
"""The database holds no text with the character U+0000."""


class DeviceBody(StrictBody):
    """What people know of a device."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "domain": "lighting",
                    "name": "Lamp 12, Quai des Lumières",
                    "zone": "Centre",
                    "latitude": 48.8566,
                    "longitude": 2.3522,
                    "interval_s": 900,
                }
            ]
        },
    )

    domain: str = Field(description="Where it is at home; it may report in other domains as well.")
    name: str | None = Field(None, max_length=200, pattern=_TEXT, description="For people.")
    zone: str | None = Field(None, max_length=200, pattern=_TEXT, description="What it is grouped by.")
    latitude: float | None = Field(None, ge=-90, le=90, description="Degrees, WGS 84.")
    longitude: float | None = Field(None, ge=-180, le=180, description="Degrees, WGS 84.")
    interval_s: float | None = Field(None, gt=0, le=1e8, description="Seconds between its readings, if it keeps one.")


@router.get(
    "/devices",
    summary="The registry of devices",
    **documented(
        {"meta": {"next": None}, "data": [_EXAMPLE]},
        overrides=_OVERRIDES | NEXT,
        questions={
            "The first lamps": "/v1/devices?domain=lighting&limit=10",
            "Devices whose clock is off by a minute or more": "/v1/devices?min_clock_skew=60",
        },
    ),
)
async def list_devices(
    service: TheService,
    domain: Annotated[tuple[str, ...], Query(description="Only devices at home in these domains. Repeatable.")] = (),
    zone: Zones = (),
    min_clock_skew: Annotated[
        float | None,
        Query(ge=0, allow_inf_nan=False, description="Only devices whose clock is off by at least so many seconds."),
    ] = None,
    limit: Limit = 1000,
    cursor: Cursor = None,
) -> Response:
    """Devices in order of their ids. They are here once they were registered, or from their first reading on.
    `clock_skew_s` is how far a device's clock seems to be off, in seconds: positive is ahead for certain, negative is
    behind or late; null where nothing was measured. `clock_seen_at` is when the newest reading behind it was received.
    """
    for name in domain:
        if name not in service.registry:
            raise InvalidQuery("domain", name, "there is no such domain", tuple(service.registry))
    (after,) = decode(cursor, str) or ("",)
    async with service.reading() as connection:
        found = await registered.page(connection, domain, zone, after, page_size(service, limit), min_clock_skew)
    return await json_page(found, _row, {"next": encode([found[-1].device_id]) if len(found) == limit else None})


@router.get(
    "/devices/{device_id}",
    summary="One device",
    **documented({"data": _EXAMPLE}, overrides=_OVERRIDES, problems=(404, 422, 503)),
)
async def get_device(device_id: DeviceId, service: TheService) -> Response:
    """The device of that id, or 404."""
    async with service.reading() as connection:
        found = await registered.one(connection, device_id)
    if found is None:
        raise not_found("device", device_id)
    return json_response(_row(found))


@router.put(
    "/devices/{device_id}",
    summary="Register or change a device",
    **documented({"data": _EXAMPLE}, overrides=_OVERRIDES, also=(201,), problems=(400, 422, 503)),
)
async def put_device(device_id: DeviceId, body: DeviceBody, service: TheService) -> Response:
    """Puts everything that is known of a device: what the body leaves out is unknown afterwards. 201 for a new one."""
    if body.domain not in service.registry:
        raise InvalidQuery("domain", body.domain, "there is no such domain", tuple(service.registry))
    # In one transaction, for somebody may delete the device at the same moment.
    async with service.connection() as connection, connection.transaction():
        added, _ = await registry.upsert(connection, [registry.Device(device_id, **body.model_dump())])
        found = await registered.one(connection, device_id)
    assert found is not None
    return json_response(_row(found), status=HTTPStatus.CREATED if added else HTTPStatus.OK)


@router.delete(
    "/devices/{device_id}",
    summary="Remove a device",
    status_code=HTTPStatus.NO_CONTENT,
    **documented(None, problems=(404, 409, 422, 503), status=204),
)
async def delete_device(device_id: DeviceId, service: TheService) -> Response:
    """Removes a device that never reported; 409 while there are readings of it, which would lose their device."""
    looked: set[int] = set()
    async with service.connection() as connection:
        # Ingest stands still for the second look only, and for nobody who is refused by the first one.
        await _require_unused(connection, service, device_id, looked)
        async with connection.transaction():
            # A reading that is committed between the look and the removal would be nobody's.
            await registry.stop_batches(connection)
            await _require_unused(connection, service, device_id, looked)
            if not await registry.remove(connection, device_id):
                raise not_found("device", device_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def _require_unused(connection: Connection, service: Service, device_id: str, looked: set[int]) -> None:
    if await registered.one(connection, device_id) is None:
        raise not_found("device", device_id)
    holding = await registered.domains_with_readings(connection, device_id, service.registry, looked)
    if holding:
        raise Problem(
            HTTPStatus.CONFLICT,
            "device-has-readings",
            f"there are readings of {device_id} in {', '.join(holding)}; it stays as long as they do",
            parameter="device_id",
            given=device_id,
        )


def _row(device: registered.Registered) -> dict[str, Any]:
    return {
        **asdict(device),
        "first_seen": format_utc(device.first_seen),
        "updated_at": format_utc(device.updated_at),
        "clock_seen_at": None if device.clock_seen_at is None else format_utc(device.clock_seen_at),
    }
