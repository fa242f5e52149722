"""The registry of devices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from telemetry.client.bodies import DataOnly, Envelope, body
from telemetry.client.errors import InvalidArgument
from telemetry.client.exchange import Answer, Flow, Question, Request, fetch, one
from telemetry.client.pages import Paged, PageMeta, in_pages
from telemetry.client.parameters import Names, fields, parameters, segment


@dataclass(frozen=True, slots=True)
class Registration:
    """What people know of a device; what is None is not known.

    Attributes:
        domain: where it is at home.
        zone: what it is grouped by.
        latitude, longitude: degrees, WGS 84.
        interval_s: seconds between its readings, if it keeps an interval.
    """

    device_id: str
    domain: str
    name: str | None = None
    zone: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    interval_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device(Registration):
    """A device in the registry.

    Attributes:
        clock_skew_s: seconds by which its clock is ahead; None where nothing was measured.
        clock_seen_at: when the newest reading behind that was received.
    """

    first_seen: datetime
    updated_at: datetime
    clock_skew_s: float | None = None
    clock_seen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """How many devices were new, and how many were there already."""

    added: int
    updated: int


def devices(
    *,
    domain: Names | None = None,
    zone: Names | None = None,
    min_clock_skew: float | None = None,
    page_size: int | None = None,
) -> Paged[Device]:
    """Devices in order of their ids.

    Args:
        domain, zone: only these.
        min_clock_skew: only devices whose clock is off by at least so many seconds.
        page_size: devices that are fetched at a time; default and most are the service's.
    """
    asked = parameters(domain=domain, zone=zone, min_clock_skew=min_clock_skew, limit=page_size)
    return in_pages(Request("v1/devices", asked), Envelope[PageMeta, tuple[Device, ...]])


def device(device_id: str) -> Question[Device]:
    """The device of that id.

    Raises:
        NotFound: there is none.
    """
    return one(Request(_path(device_id)), _device)


def put_device(
    device_id: str,
    domain: str,
    *,
    name: str | None = None,
    zone: str | None = None,
    latitude: float | None = None,
    longitude: float | None = None,
    interval_s: float | None = None,
) -> Question[Device]:
    """Registers a device, or replaces everything that is known of it: what is left out is unknown afterwards.

    Args:
        device_id: 1 to 128 characters of `A-Z a-z 0-9 . _ : -`.
        domain: where it is at home.
        name: for people.
        zone: what it is grouped by.
        latitude, longitude: degrees, WGS 84.
        interval_s: seconds between its readings, if it keeps an interval.
    """
    registration = Registration(device_id, domain, name, zone, latitude, longitude, interval_s)
    return one(_put(registration), _device)


def import_devices(registrations: Iterable[Registration]) -> Question[Imported]:
    """Puts one device after the other, as `put_device` does. The first one that is refused ends the import; those
    before it are registered.

    Raises:
        InvalidArgument: one of them cannot be sent; then none is.
    """
    requests = [_put(each) for each in registrations]

    def flow() -> Flow[Imported]:
        added = 0
        for each in requests:
            answer = yield from fetch(each)
            added += answer.status == 201
        return Imported(added, len(requests) - added)

    return Question(flow)


def delete_device(device_id: str) -> Question[None]:
    """Removes a device that never reported.

    Raises:
        NotFound: there is none.
        Conflict: there are readings of it.
    """
    return one(Request(_path(device_id), method="DELETE"), lambda _: None)


def _put(registration: Registration) -> Request:
    if not isinstance(registration, Registration):
        raise InvalidArgument(
            f"registrations: {registration!r} is none; allowed: Registration('lamp-1', 'lighting', …)"
        )
    known = {name: getattr(registration, name) for name in Registration.__dataclass_fields__ if name != "device_id"}
    return Request(_path(registration.device_id), method="PUT", body=fields(**known))


def _device(answer: Answer) -> Device:
    return body(DataOnly[Device], answer).data


def _path(device_id: str) -> str:
    return f"v1/devices/{segment('device_id', device_id)}"
