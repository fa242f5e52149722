"""The registry of devices as ingest needs it: a key for every device id, asked for batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import asyncpg

from telemetry.ingest.routes import Route
from telemetry.settings import Settings
from telemetry.store import devices
from telemetry.store.link import Link

_ANSWER_WITHIN_S: Final = 20.0
"""A look-up is short. Where the network has swallowed both of our connections, its silence adds to the writer's."""


class Devices:
    """Finds the keys of devices; registers new ones where the settings say so."""

    def __init__(self, settings: Settings) -> None:
        self._unknown: Literal["auto", "quarantine"] = settings.ingest.unknown_devices
        self._link = Link(settings, "ingest devices", answer_within_s=_ANSWER_WITHIN_S)

    async def resolve(self, routes: Sequence[Route]) -> None:
        """Fills in the keys; a device that is not registered and must not be keeps none."""
        wanted = {route.device_id: route for route in routes if route.device_id is not None}
        domains = {device_id: route.domain for device_id, route in wanted.items()}
        found = await self._link.call(lambda database: self._find(database, domains))
        for route in routes:
            if route.device_id is not None:
                route.device_key = found.get(route.device_id)

    def cut(self) -> None:
        """Breaks the connection off at once; whoever waits in `resolve` is to be cancelled."""
        self._link.cut()

    async def close(self) -> None:
        """Closes the connection."""
        await self._link.close()

    async def _find(self, database: asyncpg.Connection, domains: dict[str, str]) -> dict[str, int]:
        found = await devices.keys(database, domains)
        missing = {device_id: domain for device_id, domain in domains.items() if device_id not in found}
        if missing and self._unknown == "auto":
            found |= await devices.register(database, missing)
        return found
