"""Everything that a demo runs, started in order and stopped in the reverse: database, broker, ingest, API, upkeep."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import yaml

from telemetry.demo import http
from telemetry.demo.folder import DemoFolder
from telemetry.demo.mosquitto import LocalMosquitto, free_port
from telemetry.demo.options import DemoOptions
from telemetry.demo.ports import HOST, require_free
from telemetry.demo.postgres import LocalPostgres
from telemetry.demo.process import DemoProcess
from telemetry.demo.view import View
from telemetry.errors import Unavailable
from telemetry.settings import PREFIX, Settings, load_settings
from telemetry.simulate.device import SimulatedDevice
from telemetry.store import devices as registry
from telemetry.store.migrate import migrate
from telemetry.store.pool import connection

DATABASE: Final = "telemetry"
POSTGRES_OPTIONS: Final = {
    # The promise is about committed rows that survive a crash, so the demo keeps it, too.
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "random_page_cost": "1.1",
}
_READY_WITHIN_S: Final = 60.0
"""As long as the servers get: on a busy machine three processes that load at once may well need half of it."""


@dataclass
class Services:
    """What runs, and how to reach it.

    Attributes:
        database: a connection of the demo's own, for the accounts.
        processes: the `telemetry` commands by name; whoever adds one here has it stopped.
    """

    settings: Settings
    folder: DemoFolder
    database: asyncpg.Connection
    environment: dict[str, str]
    processes: dict[str, DemoProcess] = field(default_factory=dict)

    @property
    def api_url(self) -> str:
        """Root of the HTTP service."""
        return f"http://{HOST}:{self.settings.api.port}"

    @property
    def metrics_url(self) -> str:
        """Where ingest shows its metrics."""
        return f"http://{HOST}:{self.settings.ingest.metrics_port}/metrics"

    async def start(self, name: str, *arguments: str) -> DemoProcess:
        """Starts a `telemetry` command as a process of its own."""
        process = await DemoProcess.start(name, arguments or (name,), self.environment, self.folder.log(name))
        self.processes[name] = process
        return process

    async def stop(self, *names: str) -> None:
        """Asks processes to end, together, and waits for them."""
        await asyncio.gather(*(self.processes.pop(name).stop() for name in names if name in self.processes))

    def require_alive(self) -> None:
        """Makes sure that no process has ended by itself.

        Raises:
            ProcessDied: one has; the end of its log is told.
        """
        for process in self.processes.values():
            process.require_alive()


@asynccontextmanager
async def services(
    options: DemoOptions, folder: DemoFolder, fleet: Sequence[SimulatedDevice], view: View
) -> AsyncIterator[Services]:
    """Starts everything but the simulator; all of it has ended when the block is left.

    Raises:
        ConfigurationError: a port is taken or a program is missing; the way out is named.
        ProcessDied: a process ended while it started.
    """
    require_free(options.api_port, "--api-port", "the HTTP service")
    require_free(options.mqtt_port, "--mqtt-port", "Mosquitto")
    async with AsyncExitStack() as stack:
        with view.step("Starting PostgreSQL and Mosquitto") as result:
            postgres = LocalPostgres(folder.database, options=POSTGRES_OPTIONS)
            mosquitto = LocalMosquitto(folder.broker, port=options.mqtt_port)
            await _start(stack, mosquitto)
            await _start(stack, postgres)
            result["done"] = f"PostgreSQL on port {postgres.port}, Mosquitto on port {mosquitto.port}"
        settings = _settings(options, folder, postgres.url(DATABASE))
        with view.step("Making the tables") as result:
            await asyncio.to_thread(postgres.create_database, DATABASE)
            made = await migrate(settings)
            database = await stack.enter_async_context(connection(settings, "demo"))
            added, _ = await registry.upsert(database, map(registered, fleet))
            result["done"] = _tables_text(bool(made), added, fleet)
        running = Services(settings, folder, database, _environment(folder))
        stack.push_async_callback(_stop_all, running)
        with view.step("Starting ingest, HTTP service and upkeep") as result:
            await asyncio.gather(*(running.start(name) for name in ("ingest", "api", "maintain")))
            await _ready(running)
            result["done"] = f"Ingest, HTTP service on port {options.api_port}, upkeep"
        yield running


async def _start(stack: AsyncExitStack, server: LocalPostgres | LocalMosquitto) -> None:
    """Starts a server off the event loop; it is stopped with the stack even when the start is interrupted."""
    stack.push_async_callback(asyncio.to_thread, server.stop)
    starting = asyncio.ensure_future(asyncio.to_thread(server.start))
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting])
        raise


async def _stop_all(running: Services) -> None:
    await running.stop(*list(running.processes))


async def _ready(running: Services) -> None:
    """Waits until ingest shows its metrics and the HTTP service says that it is ready."""
    deadline = asyncio.get_running_loop().time() + _READY_WITHIN_S
    waiting = {"ingest": running.metrics_url, "the HTTP service": f"{running.api_url}/readyz"}
    while waiting:
        running.require_alive()
        answers = await asyncio.gather(*(http.get(url, within_s=2.0) for url in waiting.values()))
        waiting = {name: url for (name, url), answer in zip(waiting.items(), answers, strict=True) if answer is None}
        if waiting and asyncio.get_running_loop().time() > deadline:
            raise Unavailable(
                f"{' and '.join(waiting)} did not get ready within {_READY_WITHIN_S:.0f} s; "
                f"see the logs in {running.folder.log('*').parent}"
            )
        await asyncio.sleep(0.05 if waiting else 0)


def _settings(options: DemoOptions, folder: DemoFolder, database_url: str) -> Settings:
    """Writes the demo's settings file, for its processes and for whoever wants to join with `--config`."""
    chosen: dict[str, Any] = {
        "database": {"url": database_url},
        "mqtt": {"host": HOST, "port": options.mqtt_port},
        "ingest": {"metrics_host": HOST, "metrics_port": free_port()},
        "api": {"host": HOST, "port": options.api_port},
        "maintain": {"interval": "5s"},
        "logging": {"format": "json"},
    }
    folder.settings.write_text("# Written by `telemetry demo` at each start.\n" + yaml.safe_dump(chosen))
    return load_settings(folder.settings)


def _environment(folder: DemoFolder) -> dict[str, str]:
    return {**os.environ, f"{PREFIX}CONFIG": str(folder.settings), "PYTHONUNBUFFERED": "1"}


def registered(device: SimulatedDevice) -> registry.Device:
    """A simulated device as the registry knows it."""
    return registry.Device(
        device.device_id,
        device.domain,
        device.name,
        device.zone,
        device.latitude,
        device.longitude,
        device.interval_s,
    )


def _tables_text(first_time: bool, added: int, fleet: Sequence[SimulatedDevice]) -> str:
    zones = len({device.zone for device in fleet})
    city = f"{len(fleet):,} devices in {zones} zones"
    return f"Tables, {city}" if first_time else f"The tables of last time, {city}" + (f", {added:,} new" * bool(added))
