"""What `telemetry demo` may be told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from telemetry.errors import ConfigurationError


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

    def __post_init__(self) -> None:
        """Refuses what no city can be.

        Raises:
            ConfigurationError: the option is named with what it may be.
        """
        if self.devices < 1:
            raise ConfigurationError(f"--devices {self.devices}: a city has at least one device")
        if not 0 < self.rate <= 10_000:
            raise ConfigurationError(f"--rate {self.rate:g}: choose more than 0 and up to 10000 messages per second")
        for flag, port in (("--api-port", self.api_port), ("--mqtt-port", self.mqtt_port)):
            if not 1 <= port <= 65_535:
                raise ConfigurationError(f"{flag} {port}: choose a port from 1 to 65535")
        if self.api_port == self.mqtt_port:
            raise ConfigurationError(f"--api-port and --mqtt-port are both {self.api_port}; choose two ports")
        if self.duration is not None and self.duration <= timedelta(0):
            raise ConfigurationError("--duration: choose more than 0 seconds, or leave it out to run until Ctrl-C")
