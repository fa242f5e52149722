"""The past of many energy meters, made in the database: a reading per meter and minute, days that are over.

Raw rows are made by SQL, day by day; the roll-ups, the columnstore and everything else by the product's own upkeep.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from telemetry.settings import Settings
from telemetry.store.engine import recorded_engine
from telemetry.store.partitions import ensure_partitions
from telemetry.upkeep.rounds import run_once

DOMAIN = "energy"
_METERS = """
    INSERT INTO devices (device_id, domain, zone, interval_s)
    SELECT 'meter-' || n, 'energy', 'zone-' || n % 10, 60 FROM generate_series(1, $1::int) AS n
    ON CONFLICT DO NOTHING
"""
# In the order of the primary key, which is then filled from left to right.
_DAY = """
    INSERT INTO energy_readings (time, received_at, device_key, active_power_w, voltage_v, energy_import_kwh)
    SELECT at, at + interval '1 second', device_key, floor(random() * 10000) / 10, 230 + floor(random() * 100) / 10,
           device_key * 1000 + date_part('epoch', at - $1::timestamptz) / 7200
    FROM devices CROSS JOIN generate_series($2::timestamptz, $3::timestamptz - interval '1 minute', '1 minute') AS at
    ORDER BY device_key, at
"""
_LISTED = """
    INSERT INTO late_ranges (domain, bucket)
    SELECT 'energy', quarter
    FROM generate_series($1::timestamptz, $2::timestamptz - interval '15 minutes', '15 minutes') AS quarter
"""
_COLUMNSTORE_JOB = """
    SELECT job_id FROM timescaledb_information.jobs
    WHERE hypertable_name = 'energy_readings' AND proc_name IN ('policy_compression', 'policy_columnstore')
"""


@dataclass(frozen=True)
class Past:
    """How much there is: whole UTC days up to this morning."""

    meters: int
    days: int

    @property
    def end(self) -> datetime:
        """The first instant without readings."""
        return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

    @property
    def start(self) -> datetime:
        """The instant of the first readings."""
        return self.end - timedelta(days=self.days)

    def left(self, newest: datetime | None) -> list[datetime]:
        """The days that are still to be made, where the newest reading is that one."""
        days = [self.start + timedelta(days=number) for number in range(self.days)]
        return [day for day in days if newest is None or day > newest]

    @property
    def rows(self) -> int:
        """Readings."""
        return self.meters * self.days * 24 * 60


async def fill(settings: Settings, past: Past) -> None:
    """Makes the past in a migrated database; what is there already of the same past stays."""
    database = await asyncpg.connect(settings.database.url.get_secret_value())
    try:
        await database.execute(_METERS, past.meters)
        newest = await database.fetchval("SELECT max(time) FROM energy_readings")
        for day in past.left(newest):
            await ensure_partitions(database, DOMAIN, [day.date()])
            async with database.transaction():
                await database.execute(_DAY, past.start, day, day + timedelta(days=1))
                # A quarter that is listed is read from raw rows, and taken off by the next round.
                await database.execute(_LISTED, day, day + timedelta(days=1))
            await run_once(settings)
        if await recorded_engine(database) == "timescaledb":
            await database.execute(f"CALL run_job({await database.fetchval(_COLUMNSTORE_JOB)})")
        await database.execute("VACUUM ANALYZE")
        await database.execute("CHECKPOINT")
    finally:
        await database.close()
