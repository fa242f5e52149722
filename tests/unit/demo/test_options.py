"""Options that no city can have are refused by name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from telemetry.demo.options import DemoOptions
from telemetry.errors import ConfigurationError


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"devices": 0}, "--devices"),
        ({"rate": 0.0}, "--rate"),
        ({"duration": timedelta(0)}, "--duration"),
        ({"api_port": 99_999}, "--api-port 99999: choose a port from 1 to 65535"),
        ({"api_port": 9_000, "mqtt_port": 9_000}, "--api-port and --mqtt-port are both 9000"),
    ],
)
def test_options_out_of_range_are_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        DemoOptions(**wrong)
