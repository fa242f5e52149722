"""The last value of each metric of each device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from telemetry.client.bodies import Envelope
from telemetry.client.exchange import Request
from telemetry.client.pages import Paged, PageMeta, in_pages
from telemetry.client.parameters import Instant, Names, parameters, segment


@dataclass(frozen=True, slots=True)
class LastValue:
    """A value, when it was measured, and how old it was when the question was answered, in seconds."""

    value: float | bool | str
    time: datetime
    age_s: float


@dataclass(frozen=True, slots=True)
class Latest:
    """What is known of a device now.

    Attributes:
        interval_s: seconds between its readings, where that is known.
        status: `silent` once its newest reading is older than three intervals, or than an hour.
        time, received_at, age_s: of the newest reading; None without any.
        values: by metric.
    """

    device_id: str
    name: str | None
    zone: str | None
    latitude: float | None
    longitude: float | None
    interval_s: float | None
    status: Literal["online", "silent"]
    time: datetime | None
    received_at: datetime | None
    age_s: float | None
    values: Mapping[str, LastValue]


def latest(
    domain: str,
    *,
    metric: Names | None = None,
    device: Names | None = None,
    zone: Names | None = None,
    since: Instant = "-7d",
    tz: str | None = None,
    page_size: int | None = None,
) -> Paged[Latest]:
    """The last value of each metric of each device, its age, and whether the device is silent.

    Args:
        domain: as `domains` lists them.
        metric, device, zone: only these.
        since: how far back values are looked for.
        tz: IANA time zone in which times are shown; default is the city's.
        page_size: devices that are fetched at a time; default and most are the service's.
    """
    asked = parameters(metric=metric, device=device, zone=zone, since=since, tz=tz, limit=page_size)
    return in_pages(Request(f"v1/{segment('domain', domain)}/latest", asked), Envelope[PageMeta, tuple[Latest, ...]])
