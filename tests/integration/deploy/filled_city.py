"""Three days of the simulated city in a database, with the faults and incidents that an operator looks for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from telemetry.demo.services import registered
from telemetry.domains import Domain, load_domains
from telemetry.settings import Settings
from telemetry.simulate.city import city
from telemetry.simulate.device import Payload, SimulatedDevice
from telemetry.simulate.profiles import payload
from telemetry.store import devices
from telemetry.store.partitions import ensure_partitions
from telemetry.store.pool import connection
from telemetry.upkeep import rounds

QUARTER: Final = timedelta(minutes=15)
FLEET: Final = city(80)
UNNAMED: Final = "lamp-unnamed"
"""A lamp that ingest registered on first sight, so that it has neither name nor zone."""
SILENT: Final = "bin-silent"
"""A container that is registered, but has not reported for a day."""
DAY_BURNER: Final = UNNAMED
METER: Final = next(device for device in FLEET if device.domain == "energy" and device.kind == "town_hall")
STUCK_SPOT: Final = next(device for device in FLEET if device.kind == "spot")
RESET_METER: Final = next(device for device in FLEET if device.domain == "energy" and device.kind == "school")
"""A meter that was exchanged in the middle: its index starts again at 0."""


class Span:
    """Three days up to the last full quarter of an hour.

    Attributes:
        start, end: first and last time of measurement.
    """

    def __init__(self) -> None:
        now = datetime.now(UTC)
        self.end = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0)
        self.start = self.end - timedelta(days=3)

    @property
    def times(self) -> list[datetime]:
        """Every quarter of an hour, both ends included."""
        return [self.start + QUARTER * step for step in range((self.end - self.start) // QUARTER + 1)]

    @property
    def middle(self) -> datetime:
        """Noon of the three days."""
        return self.start + (self.end - self.start) / 2


async def fill(settings: Settings) -> Span:
    """Devices, readings, roll-ups, quarantine and ledger of the city."""
    span = Span()
    async with connection(settings, "test") as database:
        await devices.upsert(database, map(registered, FLEET))
        await devices.upsert(database, [devices.Device(SILENT, "waste", "Forgotten container", "centre")])
        await devices.register(database, {UNNAMED: "lighting"})
        keys = await devices.keys(database)
        for domain in load_domains().values():
            rows = [(keys[device_id], time, values) for device_id, time, values in _readings(domain.name, span)]
            await _store(database, domain, span, rows)
            await _account(database, domain.name, span, len(rows))
        await _quarantine(database, span)
    await rounds.run_once(settings)
    return span


def _readings(domain: str, span: Span) -> Iterable[tuple[str, datetime, Payload]]:
    for device in FLEET:
        if device.domain == domain:
            yield from ((device.device_id, time, measured(device, time, span)) for time in span.times)
    if domain == "lighting":
        yield from ((DAY_BURNER, time, _day_burner()) for time in span.times)
    if domain == "waste":
        yield SILENT, span.end - timedelta(days=1), {"fill_level_pct": 50.0}


def measured(device: SimulatedDevice, time: datetime, span: Span) -> Payload:
    """What the device measured: the simulator's value, unless an incident has befallen it."""
    values = payload(device, time)
    late = time > span.end - timedelta(hours=6)
    match device.device_id:
        case "lamp-00001" if late:
            return values | {"fault": "driver", "lamp_on": False, "power_w": 0.8}
        case "bin-00001" if late:
            return values | {"fill_level_pct": 97.0, "tilted": True, "temperature_c": 71.0, "battery_pct": 9.0}
        case STUCK_SPOT.device_id:
            return values | {"occupied": True}
        case RESET_METER.device_id if time >= span.middle:
            before = payload(device, span.middle)
            return values | {"energy_import_kwh": _number(values) - _number(before)}
    return values


def _number(values: Payload) -> float:
    return float(values["energy_import_kwh"])


def _day_burner() -> Payload:
    return {"lamp_on": True, "power_w": 41.0, "dim_level_pct": 100.0, "fault": "none"}


async def _store(
    database: asyncpg.Connection, domain: Domain, span: Span, rows: list[tuple[int, datetime, Payload]]
) -> None:
    days = sorted({time.date() for time in span.times})
    await ensure_partitions(database, domain.name, days)
    metrics = list(domain.metrics)
    records: list[tuple[Any, ...]] = [
        (time, time + timedelta(seconds=2), key, *(values.get(metric) for metric in metrics))
        for key, time, values in rows
    ]
    columns = ["time", "received_at", "device_key", *metrics]
    await database.copy_records_to_table(f"{domain.name}_readings", records=records, columns=columns)
    await database.executemany(
        "INSERT INTO late_ranges (domain, bucket) VALUES ($1, $2)", [(domain.name, time) for time in span.times]
    )


async def _account(database: asyncpg.Connection, domain: str, span: Span, stored: int) -> None:
    hour = span.end.replace(minute=0)
    outcomes = {"received": stored + 7, "stored": stored, "duplicate": 4, "out_of_range": 2, "malformed": 1}
    await database.executemany(
        "INSERT INTO ledger (hour, domain, worker, outcome, readings) VALUES ($1, $2, 'test', $3, $4)",
        [(hour, domain, outcome, readings) for outcome, readings in outcomes.items()],
    )


async def _quarantine(database: asyncpg.Connection, span: Span) -> None:
    await database.executemany(
        """
        INSERT INTO quarantine (received_at, domain, device_id, reason, detail, topic, payload)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """,
        [
            (span.end - timedelta(hours=hours), "lighting", device_id, reason, detail, "city/v1/lighting/x", b"{}")
            for hours, device_id, reason, detail in (
                (1, "lamp-00002", "out_of_range", "power_w: -4 is less than 0"),
                (2, "lamp-00002", "out_of_range", "power_w: -5 is less than 0"),
                (3, None, "malformed", "not JSON"),
            )
        ],
    )
