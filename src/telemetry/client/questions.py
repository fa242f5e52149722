"""Every question that can be asked: one function each, which the clients have as methods of the same names."""

from __future__ import annotations

from telemetry.client.changes import changes
from telemetry.client.devices import delete_device, device, devices, import_devices, put_device
from telemetry.client.domains import domains
from telemetry.client.download import download
from telemetry.client.health import health, version
from telemetry.client.latest import latest
from telemetry.client.ledger import ledger
from telemetry.client.meter_swaps import delete_meter_swap, meter_swap, meter_swaps, put_meter_swap
from telemetry.client.quarantine import quarantine, quarantine_entry, quarantine_summary
from telemetry.client.readings import readings
from telemetry.client.series import series

__all__ = [
    "changes",
    "delete_device",
    "delete_meter_swap",
    "device",
    "devices",
    "domains",
    "download",
    "health",
    "import_devices",
    "latest",
    "ledger",
    "meter_swap",
    "meter_swaps",
    "put_device",
    "put_meter_swap",
    "quarantine",
    "quarantine_entry",
    "quarantine_summary",
    "readings",
    "series",
    "version",
]
