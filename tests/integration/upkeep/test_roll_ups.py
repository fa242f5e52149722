"""Roll-ups after scattered late readings: right on every level, and no cell is made twice."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from telemetry.settings import Settings
from telemetry.store.devices import Device
from telemetry.store.engine import Engine
from telemetry.upkeep.rounds import run_once
from tests.integration.query.rows import City, Row

METERS = [Device(f"meter-{number}", "energy") for number in range(2)]
START = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=4)
WIDTHS = ("15m", "1h", "1d")


def row(quarter: int, minute: int, meter: Device) -> Row:
    value = float(quarter * 15 + minute)
    at = START + timedelta(minutes=value)
    return Row(at, meter, {"active_power_w": value, "energy_import_kwh": value})


async def written(connection: asyncpg.Connection, *tables: str) -> None:
    """Counts the rows that are written from now on, by table."""
    await connection.execute(
        """
        CREATE TABLE written (name text, bucket timestamptz);
        CREATE FUNCTION note_written() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO written VALUES (tg_table_name, new.bucket);
            RETURN NULL;
        END $$
        """
    )
    for table in tables:
        await connection.execute(
            f"CREATE TRIGGER noted AFTER INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION note_written()"
        )


@pytest.mark.asyncio
async def test_scattered_late_readings_make_each_cell_once_and_right(
    connection: asyncpg.Connection, settings: Settings, engine: Engine
) -> None:
    city = City(connection, "energy", METERS)
    await city.register()
    await city.add(row(quarter, 0, meter) for quarter in range(3 * 96) for meter in METERS)
    await run_once(settings)
    kinds = ("counters_",) if engine == "timescaledb" else ("", "counters_")
    tables = [f"energy_{kind}{width}" for kind in kinds for width in WIDTHS]
    await written(connection, *tables)
    late = random.Random(1).sample(range(3 * 96), 90)
    await city.add(row(quarter, 7, METERS[quarter % 2]) for quarter in late)
    await run_once(settings)

    twice = await connection.fetch(
        "SELECT name, bucket FROM written GROUP BY 1, 2 HAVING count(*) > 2"
    )  # of two meters
    assert twice == []
    assert {each["name"] for each in await connection.fetch("SELECT DISTINCT name FROM written")} == set(tables)
    for width in WIDTHS:
        fresh = await connection.fetchval("SELECT telemetry_roll_up_query('energy', $1)", width)
        there = f"SELECT * FROM energy_{width}"
        for one, other in ((fresh, there), (there, fresh)):
            assert await connection.fetch(f"({one}) EXCEPT ({other})") == []
    before = {name: await connection.fetch(f"SELECT * FROM {name} ORDER BY 1, 2") for name in tables}
    await connection.execute("CALL telemetry_refresh_counters('energy', $1, $2)", START, START + timedelta(days=3))
    if engine == "postgres":
        await connection.execute("CALL telemetry_refresh_roll_ups('energy', $1, $2)", START, START + timedelta(days=3))
    assert {name: await connection.fetch(f"SELECT * FROM {name} ORDER BY 1, 2") for name in tables} == before
