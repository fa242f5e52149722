"""A device of the simulated city, and what its domain's profile turns it into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

Payload = dict[str, float | bool | str]
"""The measured values of one reading, by metric; `time` is added when it is published."""


class Kind(NamedTuple):
    """A sort of device within a domain.

    Attributes:
        name: what the profile decides by, e.g. `school`.
        prefix: of the device ids.
        title: first words of the names.
    """

    name: str
    prefix: str
    title: str


@dataclass(frozen=True, slots=True)
class SimulatedDevice:
    """A device of the city.

    Attributes:
        device_id: e.g. `lamp-00001`.
        kind: name of its `Kind`.
        latitude, longitude: degrees, WGS 84.
        interval_s: seconds between its readings.
        seed: 64 bits from which its individual traits come.
    """

    device_id: str
    domain: str
    kind: str
    name: str
    zone: str
    latitude: float
    longitude: float
    interval_s: float
    seed: int
