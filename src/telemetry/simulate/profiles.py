"""The reading of any device of the city at any time, as it goes over the wire."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from telemetry.simulate import energy, lighting, parking, waste
from telemetry.simulate.device import Payload, SimulatedDevice

_PROFILES: Final = {
    "energy": energy.payload,
    "lighting": lighting.payload,
    "parking": parking.payload,
    "waste": waste.payload,
}


def payload(device: SimulatedDevice, time: datetime) -> Payload:
    """The measured values of a device at a time (with an offset), the same for the same arguments.

    Raises:
        ValueError: the time has no offset, or lies before the city's first day.
    """
    if time.tzinfo is None:
        raise ValueError(f"a time with an offset is needed, not {time.isoformat()}")
    return _PROFILES[device.domain](device, time.timestamp())


def reading(device: SimulatedDevice, time: datetime) -> dict[str, Any]:
    """One native reading: the payload with its time in RFC 3339, to the millisecond."""
    stamp = time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"time": stamp, **payload(device, time)}


def encode(device: SimulatedDevice, times: Iterable[datetime]) -> bytes:
    """The body of a message: an object for one reading, an array for several, as gateways that catch up send it."""
    readings = [reading(device, time) for time in times]
    return json.dumps(readings[0] if len(readings) == 1 else readings, separators=(",", ":")).encode()
