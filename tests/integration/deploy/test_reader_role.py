"""The role of the dashboards: it reads the views of schema grafana and nothing else."""

from __future__ import annotations

import asyncpg
import pytest

from telemetry.domains import load_domains
from tests.integration.deploy.conftest import FilledDatabase
from tests.integration.deploy.filled_city import FLEET, SILENT, UNNAMED

DOMAINS = sorted(load_domains())
RELATIONS = [
    *(f"{domain}{suffix}" for domain in DOMAINS for suffix in ("", "_15m", "_1h", "_1d")),
    "devices",
    "ledger",
    "quarantine",
]
HIDDEN = [
    "devices",
    "quarantine",
    "ledger",
    "telemetry_meta",
    "telemetry_migrations",
    *(f"{domain}_{suffix}" for domain in DOMAINS for suffix in ("readings", "15m", "1h", "1d")),
]


@pytest.mark.asyncio
@pytest.mark.parametrize("relation", RELATIONS)
async def test_reader_finds_the_view_without_naming_the_schema(reader: asyncpg.Connection, relation: str) -> None:
    assert await reader.fetchval(f"SELECT count(*) FROM {relation}") > 0


@pytest.mark.asyncio
async def test_reader_sees_devices_without_name_and_zone(reader: asyncpg.Connection) -> None:
    rows = {row["device_id"]: row for row in await reader.fetch("SELECT * FROM devices")}
    assert set(rows) == {device.device_id for device in FLEET} | {SILENT, UNNAMED}
    assert rows[UNNAMED]["device"] == UNNAMED
    assert rows[UNNAMED]["zone"] is None


@pytest.mark.asyncio
@pytest.mark.parametrize("table", HIDDEN)
async def test_reader_cannot_read_the_table_behind(reader: asyncpg.Connection, table: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.fetchval(f"SELECT count(*) FROM public.{table}")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO grafana.devices (device_id, domain) VALUES ('x', 'waste')",
        "UPDATE grafana.devices SET zone = 'x'",
        "DELETE FROM grafana.quarantine",
        "CREATE TABLE grafana.x (y int)",
        "CREATE TABLE public.x (y int)",
        "DROP VIEW grafana.ledger",
    ],
)
async def test_reader_cannot_write_even_in_a_transaction_that_may(reader: asyncpg.Connection, statement: str) -> None:
    await reader.execute("SET default_transaction_read_only = off")
    # A view over a join or an aggregate refuses writing whoever asks.
    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ObjectNotInPrerequisiteStateError)):
        await reader.execute(statement)


@pytest.mark.asyncio
async def test_reader_is_read_only_by_default(reader: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await reader.execute("CREATE TABLE public.x (y int)")


@pytest.mark.asyncio
async def test_reader_has_the_password_of_the_settings(filled: FilledDatabase) -> None:
    connection = await asyncpg.connect(filled.settings.database.url.get_secret_value())
    try:
        known = await connection.fetchval(
            "SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = 'telemetry_reader'"
        )
    finally:
        await connection.close()
    assert known
