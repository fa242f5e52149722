"""The keys of a batch's devices, looked up once more where the database may not know them any more.

A batch carries integer keys that were found before its transaction. A device that was removed meanwhile, or a server
that took over and knows less than the one before, makes them keys of nothing, or of another device. The topics of
the messages still say which devices they are.
"""

from __future__ import annotations

import asyncpg

from telemetry.errors import Reason
from telemetry.store import devices
from telemetry.store.batch import Batch, Readings, quarantined
from telemetry.store.copy import device_of
from telemetry.store.layout import RECEIVED_AT, SOURCE, Entry


async def renew(database: asyncpg.Connection, batch: Batch, *, register: bool) -> None:
    """Gives the readings of a batch the keys that are good in this transaction, which keeps the devices.

    Args:
        register: whether devices that are not registered are; otherwise their readings are refused.
    """
    domains = {
        device_of(entry[SOURCE]): domain for domain, readings in batch.readings.items() for entry in readings.entries
    }
    found = await devices.keys(database, domains)
    missing = {device_id: domain for device_id, domain in domains.items() if device_id not in found}
    if missing and register:
        found |= await devices.register(database, missing)
    for domain, readings in list(batch.readings.items()):
        _renew(batch, domain, readings, found)
        if not readings.entries:
            del batch.readings[domain]


def unregistered(device_id: str | None) -> str:
    """Why a reading of a device that is not registered is refused."""
    return (
        f"the device {device_id} is not registered; register it with PUT /v1/devices/{{id}} or "
        "telemetry import, or set ingest.unknown_devices to auto"
    )


def _renew(batch: Batch, domain: str, readings: Readings, found: dict[str, int]) -> None:
    good: list[Entry] = []
    for entry in readings.entries:
        source = entry[SOURCE]
        device_id = device_of(source)
        if (key := found.get(device_id)) is not None:
            time_us, received_us, _, *rest = entry
            good.append((time_us, received_us, key, *rest))
            continue
        refused = quarantined(
            source, entry[RECEIVED_AT], domain, device_id, Reason.UNKNOWN_DEVICE, unregistered(device_id)
        )
        batch.refused.append(refused)
    readings.entries[:] = good
