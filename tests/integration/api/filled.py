"""Readings of the days before now, for tests that ask everything."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from tests.integration.query.rows import City, Row

HOURS = 50


async def fill(city: City) -> None:
    """Readings of every kind, some days long, with gaps and a counter that fell."""
    await city.add(_rows(city, datetime.now(UTC).replace(minute=0, second=0, microsecond=0)))


def _rows(city: City, now: datetime) -> Iterator[Row]:
    for hour in range(HOURS):
        for number, device in enumerate(city.devices[:3]):
            if (hour + number) % 7 == 0:
                continue
            values = {
                "power_w": 40.0 + hour,
                "voltage_v": 230.0,
                "energy_kwh": float((hour + 10 * number) % 40),
                "lamp_on": hour % 2 == 0,
                "fault": "none" if hour % 5 else "lamp",
            }
            yield Row(now - timedelta(hours=HOURS - hour, minutes=7 * number), device, values)
