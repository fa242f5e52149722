"""What `telemetry demo` may be told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The demo as it is asked for.

    Attributes:
        duration: how long the city publishes before everything is drained and compared; None is until Ctrl-C.
        devices: size of the simulated city.
        rate: live messages per second, of all devices together.
        data_dir: database, broker and logs; kept, so that the next start goes on with the same data.
        json_status: one JSON object a second on standard output instead of words for people.
    """

    duration: timedelta | None = None
    devices: int = 2_000
    rate: float = 200.0
    data_dir: Path = Path("telemetry-demo")
    api_port: int = 8000
    mqtt_port: int = 1883
    json_status: bool = False
