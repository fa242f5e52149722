"""From a gateway's message to the row, on a real broker and both engines."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import asyncpg
import pytest

from telemetry.settings import Settings
from telemetry.store import writer
from tests.support.gateway import gateway
from tests.support.ingesting import ingesting, received

NOW = datetime.now(UTC).replace(microsecond=0)
"""When the tests were collected, to the second."""


def changed(settings: Settings, **ingest: Any) -> Settings:
    """The settings with other ones for ingest."""
    return settings.model_copy(update={"ingest": settings.ingest.model_copy(update=ingest)})


def at(seconds: float = 0.0) -> str:
    """A time so many seconds before now, as gateways write it."""
    return (NOW - timedelta(seconds=seconds)).isoformat()


@pytest.mark.asyncio
async def test_reading_of_every_domain_is_stored_with_every_value(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    sent: dict[str, dict[str, Any]] = {
        "lighting": {"power_w": 41.5, "energy_kwh": 1203.4, "lamp_on": True, "fault": "none", "rssi_dbm": -71},
        "energy": {"active_power_w": -12.25, "voltage_l3_v": 231.0, "energy_export_kwh": 0.1},
        "parking": {"occupied_spots": 3, "total_spots": 40, "arrivals": 12, "occupied": False},
        "waste": {"fill_level_pct": 0.1 + 0.2, "tilted": True, "lid_open": False, "battery_pct": 100},
    }
    began = datetime.now(UTC)
    async with ingesting(settings), gateway(settings) as sender:
        for domain, values in sent.items():
            await sender.send(f"{domain}/{domain}-1", {"time": at(), **values, "firmware": {"version": "2.1"}})
        assert await received(connection, 4) == {"received": 4, "stored": 4}
    for domain, values in sent.items():
        row = await connection.fetchrow(
            f"SELECT * FROM {domain}_readings JOIN devices USING (device_key) WHERE device_id = $1", f"{domain}-1"
        )
        assert row is not None
        assert row["time"] == NOW
        assert began <= row["received_at"] <= datetime.now(UTC)
        assert {name: row[name] for name in values} == values
        assert json.loads(row["attributes"]) == {"firmware": {"version": "2.1"}}
        assert row["domain"] == domain
    assert await connection.fetchval("SELECT count(*) FROM late_ranges WHERE domain = 'waste'") == 1


@pytest.mark.asyncio
async def test_twelve_kinds_of_broken_message_are_quarantined_and_the_next_good_one_is_stored(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    settings = changed(settings, max_payload_bytes=200)
    good: dict[str, Any] = {"time": at(), "power_w": 1.0}
    await connection.execute("ALTER TABLE lighting_readings ADD CHECK (power_w <> 13)")
    broken: list[tuple[str, str, Any]] = [
        ("malformed", "lighting/a", b'{"power_w": 1'),
        ("malformed", "lighting/a", b"\x00\x01\xff"),
        ("malformed", "lighting/a", b'{"power_w": NaN}'),
        ("schema", "lighting/a", {"time": at(), "power_w": "41.5"}),
        ("schema", "lighting/a", {"time": "2026-11-23T06:00:01", "power_w": 1.0}),
        ("out_of_range", "lighting/a", {"time": at(), "power_w": -1}),
        ("unknown_topic", "weather/a", good),
        ("unknown_topic", "lighting/a/b", good),
        ("device_mismatch", "lighting/a", {**good, "device_id": "b"}),
        ("clock_future", "lighting/a", {"time": "2099-01-01T00:00:00Z", "power_w": 1.0}),
        ("clock_past", "lighting/a", {"time": 0, "power_w": 1.0}),
        ("clock_future", "lighting/a", {"time": "9999-12-31T23:59:59-12:00", "power_w": 1.0}),
        ("clock_past", "lighting/a", {"time": "0001-01-01T00:00:00+14:00", "power_w": 1.0}),
        ("oversize", "lighting/a", {**good, "note": "x" * 200}),
        ("rejected_by_database", "lighting/a", {"time": at(1), "power_w": 1.0, "note": "\x00"}),
        ("rejected_by_database", "lighting/a", {"time": at(2), "power_w": 13.0}),
    ]
    async with ingesting(settings), gateway(settings) as sender:
        for number, (reason, path, payload) in enumerate(broken):
            await sender.send(path, payload)
            await sender.send(f"lighting/good-{number}", good)
            found = await received(connection, 2 * number + 2)
            assert found["stored"] == number + 1
            assert found[reason] >= 1
    rows = await connection.fetch("SELECT * FROM quarantine ORDER BY id")
    assert [(row["reason"], row["topic"]) for row in rows] == [
        (reason, f"{settings.mqtt.topic_root}/{path}") for reason, path, _ in broken
    ]
    for row, (_, _, payload) in zip(rows, broken, strict=True):
        assert row["payload"] == (payload if isinstance(payload, bytes) else json.dumps(payload).encode())
        assert row["detail"]


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_huge_message_is_quarantined_by_its_beginning(settings: Settings, connection: asyncpg.Connection) -> None:
    """What exceeds the limit by far is not held in memory; its size is told, and what follows it is stored."""
    settings = changed(settings, max_payload_bytes=1_000)
    payload = b'{"power_w":1,"note":"%b"}' % (b"x" * 20_000_000)
    async with ingesting(settings), gateway(settings) as sender:
        await sender.send("lighting/a", payload)
        await sender.send("lighting/a", {"time": at(), "power_w": 1.0})
        assert await received(connection, 2) == {"received": 2, "oversize": 1, "stored": 1}
    (row,) = await connection.fetch("SELECT * FROM quarantine")
    assert (row["topic"], row["payload"]) == (f"{settings.mqtt.topic_root}/lighting/a", payload[:1_001])
    assert row["detail"] == f"the payload has {len(payload):,} bytes; ingest.max_payload_bytes allows 1,000"


@pytest.mark.asyncio
async def test_conflict_is_quarantined_and_the_first_value_stays(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    async with ingesting(settings), gateway(settings) as sender:
        await sender.send("waste/bin", {"time": at(), "fill_level_pct": 10.0})
        await received(connection, 1)
        await sender.send("waste/bin", {"time": at(), "fill_level_pct": 20.0})
        assert await received(connection, 2) == {"received": 2, "stored": 1, "conflict": 1}
    assert await connection.fetchval("SELECT fill_level_pct FROM waste_readings") == 10.0
    assert await connection.fetchval("SELECT detail FROM quarantine") == "fill_level_pct is 10, not 20"


@pytest.mark.asyncio
@pytest.mark.parametrize("at_once", [True, False], ids=["within a batch", "across batches"])
async def test_same_reading_again_is_a_duplicate_and_a_partial_one_is_merged(
    settings: Settings, connection: asyncpg.Connection, at_once: bool
) -> None:
    first = {"time": at(), "fill_level_pct": 10.0, "note": "a"}
    again = [first, {"time": at(), "fill_level_pct": 10.0}, {"time": at(), "tilted": True, "more": 1}]
    async with ingesting(settings), gateway(settings) as sender:
        if at_once:
            await sender.send("waste/bin", [first, *again])
        else:
            for number, payload in enumerate([first, *again], 1):
                await sender.send("waste/bin", payload)
                await received(connection, number)
        assert await received(connection, 4) == {"received": 4, "stored": 2, "merged": 1, "duplicate": 2}
    (row,) = await connection.fetch("SELECT * FROM waste_readings")
    assert (row["fill_level_pct"], row["tilted"]) == (10.0, True)
    assert json.loads(row["attributes"]) == {"note": "a", "more": 1}


@pytest.mark.asyncio
async def test_array_keeps_its_good_readings_and_names_the_place_of_bad_ones(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    payload = [{"time": at(n), "power_w": float(n)} for n in range(5)]
    payload[3]["power_w"] = -3.0
    async with ingesting(settings), gateway(settings) as sender:
        await sender.send("lighting/lamp", payload)
        assert await received(connection, 5) == {"received": 5, "stored": 4, "out_of_range": 1}
    row = await connection.fetchrow("SELECT position, payload FROM quarantine")
    assert row is not None
    assert (row["position"], json.loads(row["payload"])) == (3, payload[3])


@pytest.mark.asyncio
async def test_poison_rows_in_a_large_batch_are_found_alone(settings: Settings, connection: asyncpg.Connection) -> None:
    await connection.execute("ALTER TABLE lighting_readings ADD CHECK (power_w <> 13)")
    poison = {17, 400, 999}
    rows = [{"time": at(n), "power_w": 13.0 if n in poison else 1.0} for n in range(1_000)]
    async with ingesting(settings), gateway(settings) as sender:
        await sender.send("lighting/lamp", rows)
        found = await received(connection, 1_000)
    assert found == {"received": 1_000, "stored": 997, "rejected_by_database": 3}
    positions = await connection.fetch("SELECT position FROM quarantine ORDER BY position")
    assert {row["position"] for row in positions} == poison


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_nul_characters_are_refused_alone_and_without_the_database(
    settings: Settings, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL refuses the whole batch for one: a device that sends them would slow all others down."""

    async def store_carefully(*_: object) -> NoReturn:
        raise AssertionError("the database has refused a row")

    monkeypatch.setattr(writer, "store_carefully", store_carefully)
    said: dict[int, dict[str, Any]] = {
        3: {"note": "a\0b"},
        400: {"\0": 1},
        500: {"deep": [{"note": "\\\0"}]},
        700: {"note": "\\u0000"},
    }
    rows = [{"time": at(n), "power_w": 1.0, **said.get(n, {})} for n in range(1_000)]
    async with ingesting(settings), gateway(settings) as sender:
        await sender.send("lighting/lamp", rows)
        await sender.send("lighting/nul", rows[3])
        assert await received(connection, 1_001) == {"received": 1_001, "stored": 997, "rejected_by_database": 4}
    refused = await connection.fetch("SELECT position, payload, detail FROM quarantine ORDER BY position")
    assert [row["position"] for row in refused] == [3, 400, 500, None]
    assert [json.loads(row["payload"]) for row in refused] == [rows[3], rows[400], rows[500], rows[3]]
    assert {row["detail"] for row in refused} == {
        "an unknown field holds a NUL character (U+0000), which PostgreSQL cannot store"
    }
    kept = await connection.fetchval("SELECT attributes ->> 'note' FROM lighting_readings WHERE attributes IS NOT NULL")
    assert kept == "\\u0000"
    assert await connection.fetchval("SELECT count(*) FROM devices") == 1


@pytest.mark.asyncio
async def test_bad_reading_spoils_no_other_of_its_device_and_time(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    await connection.execute("ALTER TABLE lighting_readings ADD CHECK (temperature_c <> 13)")
    poison = {"temperature_c": 13.0}
    rows = [
        {"time": at(1), **poison},  # refused, so that the next one is the first
        {"time": at(1), "power_w": 1.0},  # stored
        {"time": at(1), "lamp_on": True, **poison},  # refused, and completes nothing
        {"time": at(1), "lamp_on": False},  # completes the row
        {"time": at(1), "power_w": 2.0},  # contradicts it
        {"time": at(1), "power_w": 1.0},  # is known
        {"time": at(2), "power_w": 5.0},
    ]
    began = datetime.now(UTC)
    async with ingesting(settings), gateway(settings) as sender:
        await sender.send("lighting/lamp", rows)
        assert await received(connection, 7) == {
            "received": 7,
            "stored": 3,
            "merged": 1,
            "duplicate": 1,
            "conflict": 1,
            "rejected_by_database": 2,
        }
        more = {"time": at(2), "lamp_on": True}
        await sender.send("lighting/lamp", [{**more, **poison}, more])
        found = await received(connection, 9)
    assert (found["stored"], found["merged"], found["rejected_by_database"]) == (4, 2, 3)
    values = await connection.fetch("SELECT power_w, lamp_on FROM lighting_readings ORDER BY time")
    assert [tuple(row) for row in values] == [(5.0, True), (1.0, False)]
    assert await connection.fetchval("SELECT min(received_at) FROM quarantine") >= began
    assert await connection.fetchval("SELECT count(*) FROM ledger WHERE readings = 0") == 0


@pytest.mark.asyncio
async def test_readings_without_time_get_their_receipt_time_each_its_own(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    async with ingesting(settings), gateway(settings) as sender:
        await sender.send("parking/p", [{"occupied": True}] * 10)
        assert await received(connection, 10) == {"received": 10, "stored": 10}
    assert await connection.fetchval("SELECT count(DISTINCT time) FROM parking_readings") == 10


@pytest.mark.asyncio
async def test_unregistered_device_waits_in_quarantine_until_it_is_registered(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    async with ingesting(changed(settings, unknown_devices="quarantine")), gateway(settings) as sender:
        await sender.send("parking/p", {"time": at(1), "occupied": True})
        assert await received(connection, 1) == {"received": 1, "unknown_device": 1}
        assert await connection.fetchval("SELECT count(*) FROM devices") == 0
        await connection.execute("INSERT INTO devices (device_id, domain) VALUES ('p', 'parking')")
        await sender.send("parking/p", {"time": at(0), "occupied": True})
        assert (await received(connection, 2))["stored"] == 1


@pytest.mark.asyncio
async def test_device_whose_every_message_is_broken_is_not_registered(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    async with ingesting(settings), gateway(settings) as sender:
        await sender.send("parking/ghost", b"?")
        await received(connection, 1)
    assert await connection.fetchval("SELECT count(*) FROM devices") == 0


@pytest.mark.asyncio
async def test_readings_of_a_week_find_their_partitions(settings: Settings, connection: asyncpg.Connection) -> None:
    days = [{"time": at(n * 86_400 + 60), "power_w": 1.0} for n in range(7)]
    async with ingesting(settings), gateway(settings) as sender:
        await sender.send("lighting/lamp", days)
        assert await received(connection, 7) == {"received": 7, "stored": 7}
