"""What a careful programmer writes without this project: aiomqtt, Pydantic, asyncpg's executemany, uvloop.

    python -m tests.benchmarks.baseline DATABASE_URL PORT ROOT DOMAIN

It validates with the same model and writes the same columns of the same table, in batches of 1,000, with ON CONFLICT DO
NOTHING. In its favour: it has no ledger, no quarantine, no late ranges, registers no devices (their keys are in a
dictionary before it begins), and acknowledges on arrival, as aiomqtt does. It
speaks MQTT 3.1.1, aiomqtt's default: with MQTT 5 a third of its time goes into the properties of each packet. It says
`ready` once it is subscribed.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import Any, Final

import aiomqtt
import asyncpg
import uvloop

from telemetry.domains.registry import load_domains
from telemetry.store import devices

BATCH: Final = 1_000
FLUSH_S: Final = 0.1


class Writer:
    """Rows on their way into the table of a domain."""

    def __init__(self, database: asyncpg.Connection, table: str, columns: list[str]) -> None:
        self._database = database
        places = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
        self._insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) ON CONFLICT DO NOTHING"
        self._lock = asyncio.Lock()
        self.rows: list[tuple[Any, ...]] = []

    async def flush(self) -> None:
        """Writes what waits, in one transaction."""
        async with self._lock:
            rows, self.rows = self.rows, []
            if rows:
                await self._database.executemany(self._insert, rows)

    async def flush_old(self) -> None:
        """Writes what waits for long, for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()


async def run(url: str, port: int, root: str, name: str) -> None:
    """Subscribes and writes until it is ended."""
    domain = load_domains()[name]
    metrics = list(domain.metrics)
    validate = domain.model.model_validate_json
    database = await asyncpg.connect(url)
    keys = await devices.keys(database)
    writer = Writer(database, f"{name}_readings", ["time", "received_at", "device_key", *metrics])
    flusher = asyncio.create_task(writer.flush_old(), name="flush")
    async with aiomqtt.Client("127.0.0.1", port, identifier=f"{root}-baseline") as client:
        await client.subscribe(f"{root}/{name}/+", qos=1)
        print("ready", flush=True)
        async for message in client.messages:
            reading = validate(message.payload)
            key = keys[str(message.topic).rpartition("/")[2]]
            writer.rows.append((reading.time, datetime.now(UTC), key, *[getattr(reading, each) for each in metrics]))
            if len(writer.rows) >= BATCH:
                await writer.flush()
    flusher.cancel()


if __name__ == "__main__":
    url, port, root, name = sys.argv[1:]
    uvloop.run(run(url, int(port), root, name))
