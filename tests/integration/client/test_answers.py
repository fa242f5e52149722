"""Every question through both clients, on the running service: the answers are those of the service, in types."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import asyncpg
import duckdb
import httpx
import polars as pl
import pyarrow as pa
import pytest

from telemetry.client import (
    Account,
    Bucket,
    Client,
    Conflict,
    Health,
    Imported,
    InvalidParameter,
    NotFound,
    Reading,
    Registration,
    TooLarge,
    readings,
    series,
)
from telemetry.client.parameters import Format
from telemetry.settings import Settings
from telemetry.upkeep.rounds import run_once
from tests.integration.api.conftest import DEVICES
from tests.integration.client.conftest import Both
from tests.integration.query.rows import City, Row

PARIS = ZoneInfo("Europe/Paris")
NIGHT = datetime(2025, 10, 26, 0, tzinfo=UTC)
"""02:00 in Paris, in the night that has this hour twice."""
NIGHTS: dict[str, Any] = {"start": NIGHT, "end": NIGHT + timedelta(hours=3), "tz": "Europe/Paris"}


def night() -> Iterator[Row]:
    """A reading of each of three lamps every ten minutes, for two hours, which are one hour on the clock."""
    for minute in range(0, 120, 10):
        for number, device in enumerate(DEVICES[:3]):
            values = {"power_w": 40.0 + minute + number, "energy_kwh": minute / 10, "lamp_on": minute < 60}
            yield Row(NIGHT + timedelta(minutes=minute), device, {**values, "fault": "lamp" if minute else "none"})


@pytest.mark.asyncio
async def test_series_is_typed_and_keeps_both_passes_of_the_repeated_hour_apart(both: Both, city: City) -> None:
    await city.add(night())
    first, second = await both.ask("series", "lighting", "power_w", agg=["avg", "max"], by="zone", **NIGHTS)
    assert first.rows == second.rows
    assert len(first) == 4
    assert len({each.start for each in first}) == 2
    assert [str(each.start) for each in first][::2] == ["2025-10-26 02:00:00+02:00", "2025-10-26 02:00:00+01:00"]
    assert first.rows[0] == Bucket(
        NIGHT, "power_w", {"avg": 65.5, "max": 91.0}, samples=12, coverage=None, zone="North"
    )
    assert (first.units["power_w", "avg"], first.meta.tz, first.meta.start) == ("W", "Europe/Paris", NIGHT)
    assert (first.meta.by, first.meta.plan, first.as_of.tzinfo is None) == ("zone", None, False)
    with pytest.raises(LookupError, match=r"avg, max; take one by its name: bucket\['avg'\]"):
        _ = first.rows[0].value
    assert first.rows[0].number("max") == first.rows[0]["max"] == 91.0

    table = first.to_arrow()
    assert isinstance(table, pa.Table)
    polars, pandas = first.to_polars(), first.to_pandas()
    assert polars.schema["bucket"] == pl.Datetime("us", "Europe/Paris")
    assert polars["avg"].to_list() == pandas["avg"].to_list() == [each["avg"] for each in first]
    assert str(pandas["bucket"].dt.tz) == "Europe/Paris"
    assert pandas["bucket"].nunique() == 2


@pytest.mark.asyncio
async def test_series_of_metrics_of_every_kind_has_values_of_their_types(both: Both, city: City) -> None:
    await city.add(night())
    names = ["power_w", "energy_kwh", "lamp_on", "fault"]
    mixed = {
        each.metric: each for each in await both.run(lambda it: it.series("lighting", names, agg="last", **NIGHTS))
    }
    assert [mixed[name].value for name in names] == [152.0, 11.0, False, "lamp"]
    with pytest.raises(TypeError, match="last of fault is no number: 'lamp'"):
        mixed["fault"].number()
    for metric, share in (("fault", {"lamp": 1.0}), ("lamp_on", 0.0)):
        found = await both.run(partial(Client.series, domain="lighting", metric=metric, **NIGHTS))
        assert found.rows[1].value == share
    shares = await both.run(lambda it: it.series("lighting", names[2:], **NIGHTS))
    assert [each.value for each in shares][2:4] == [0.0, {"lamp": 1.0}]

    asked: dict[str, Any] = {"percentile": [50, 99.9], "fill": "locf", "window": "30m", "device": "lamp-1"}
    filled = await both.run(
        lambda it: it.series(
            "lighting", "power_w", by="device", explain=True, max_gap=timedelta(hours=1), **asked, **NIGHTS
        )
    )
    assert [each.filled for each in filled] == [False] * 4 + [True] * 2
    assert filled.rows[0].values.keys() == {"p50", "p99.9"}
    assert {each.device_id for each in filled} == {"lamp-1"}
    assert [part["relation"] for part in filled.meta.plan][-1] == "lighting_readings"
    assert filled.meta.rows_read["limit"] > 0
    counted = await both.run(lambda it: it.series("lighting", "energy_kwh", device=["lamp-1", "lamp-2"], **NIGHTS))
    assert (counted.rows[0].value, counted.rows[0].quality) == (12.0, "measured")
    nothing = await both.run(lambda it: it.series("lighting", "power_w", start=NIGHT - timedelta(days=3), end=NIGHT))
    assert (nothing.rows, nothing.to_polars().height) == ((), 0)


@pytest.mark.asyncio
async def test_readings_are_all_pages_of_one_range(both: Both, city: City, connection: asyncpg.Connection) -> None:
    await city.add(night())
    now = datetime.now(UTC).replace(microsecond=0)
    await city.add(Row(now - timedelta(minutes=minute), DEVICES[0], {"power_w": 1.0}) for minute in range(1, 8))
    await connection.execute('UPDATE lighting_readings SET attributes = \'{"firmware": "1.4"}\' WHERE power_w = 1.0')
    found = await both.same("readings", "lighting", metric=["power_w", "fault"], page_size=7, **NIGHTS)
    assert len(found) == 36
    assert found[0] == Reading(NIGHT, NIGHT, "lamp-1", {"power_w": 40.0, "fault": "none"}, None)
    assert found[-1]["power_w"] == 152.0
    recent = await both.run(lambda it: it.readings("lighting", page_size=3, order="desc"))
    pages = await both.run(lambda it: [*it.readings("lighting", page_size=3, order="desc").pages()])
    assert [len(page.rows) for page in pages] == [3, 3, 1]
    assert len({(page.meta.start, page.meta.end) for page in pages}) == 1
    assert pages[0].rows[0].attributes == {"firmware": "1.4"}
    frame = await both.run(lambda _: recent.to_polars())
    assert frame["time"].to_list() == sorted(frame["time"].to_list(), reverse=True)
    assert frame.height == 7
    table = await both.awaiting.readings("lighting", page_size=7, **NIGHTS).to_arrow()
    assert table.num_rows == 36
    assert b'"next": null' in table.schema.metadata[b"meta"]
    assert (await both.awaiting.readings("lighting", **NIGHTS).to_pandas()).shape[0] == 36


@pytest.mark.asyncio
async def test_downloads_are_complete_in_every_format(both: Both, city: City, tmp_path: Path, address: str) -> None:
    await city.add(night())
    power = series("lighting", "power_w", by="device", window="15m", **NIGHTS)
    rows = len(await both.awaiting.ask(power))
    raw = readings("lighting", metric="power_w", page_size=7, **NIGHTS)
    for name, question, count in (("power", power, rows), ("raw", raw, 36)):
        for form in get_args(Format)[1:]:
            path = tmp_path / f"{name}-{form}.{'csv' if form == 'excel' else form}"
            for done in (
                await both.run(partial(Client.download, question=question, path=path, format=form)),
                await both.awaiting.download(question, path, form),
            ):
                assert (done.path, done.size) == (path, path.stat().st_size)
                assert (done.as_of is not None) == (name == "power")
            assert _rows(path, form) == count, path
    found = await both.awaiting.download(power, str(tmp_path / "power.json"))
    assert len(httpx.Response(200, content=found.path.read_bytes()).json()["data"]) == rows
    asked = {"format": "csv", "metric": "power_w", **_texts(NIGHTS)}
    direct = await both.run(lambda _: httpx.get(f"{address}/v1/lighting/readings", params=asked))
    assert (tmp_path / "raw-csv.csv").read_bytes() == direct.content
    with pytest.raises(NotFound):
        await both.awaiting.download(series("traffic", "cars"), tmp_path / "cars.csv")
    assert not [*tmp_path.glob("cars*"), *tmp_path.glob("*.part")]


def _rows(path: Path, form: str) -> int:
    if form == "arrow":
        return pl.read_ipc_stream(path).height
    reader = {"parquet": "read_parquet", "ndjson": "read_json"}.get(form, "read_csv")
    with duckdb.connect() as database:
        found = database.execute(
            f"SELECT count(device_id), count(DISTINCT device_id) FROM {reader}('{path}')"
        ).fetchone()
    assert found is not None
    assert found[1] == 3
    return int(found[0])


def _texts(asked: dict[str, Any]) -> dict[str, str]:
    return {name: str(value).replace(" ", "T") for name, value in asked.items()}


@pytest.mark.asyncio
async def test_registry_is_read_and_written(both: Both) -> None:
    listed = await both.same("devices", page_size=3)
    assert [each.device_id for each in listed] == ["lamp-1", "lamp-2", "lamp-3", "lamp-4"]
    assert await both.same("devices", zone="North", domain=["lighting", "waste"]) == listed[:2]
    one = await both.same("device", "lamp-1")
    assert (one.name, one.interval_s, one.latitude, one.first_seen.tzinfo is None) == ("Lamp 1", 900, 48.85, False)
    put = await both.run(lambda it: it.put_device("bin:5", "waste", zone="East", interval_s=3600))
    assert (put.device_id, put.name, put.zone, put.interval_s) == ("bin:5", None, "East", 3600)
    more = [Registration("bin:6", "waste"), put]
    assert await both.run(lambda it: it.import_devices(iter(more))) == Imported(added=1, updated=1)
    assert await both.awaiting.import_devices(more) == Imported(added=0, updated=2)
    again = await both.awaiting.put_device("bin:5", "waste", zone="East", interval_s=3600)
    assert await both.same("device", "bin:5") == again
    assert again.updated_at > put.updated_at
    assert await both.run(lambda it: it.delete_device("bin:5")) is None
    with pytest.raises(NotFound, match="there is no device 'bin:5'"):
        await both.awaiting.delete_device("bin:5")


@pytest.mark.asyncio
async def test_meter_swap_is_declared_and_withdrawn(both: Both) -> None:
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    asked = ("lamp-1", "energy_kwh", at)
    swap = await both.run(lambda it: it.put_meter_swap(*asked, start_index=0.4, final_index=48_213.7))
    assert (swap.domain, swap.metric, swap.time, swap.start_index, swap.final_index) == (
        *("lighting", "energy_kwh", at),
        *(0.4, 48_213.7),
    )
    assert await both.same("meter_swaps", "lamp-1") == (swap,)
    assert await both.same("meter_swap", "lamp-1", "energy_kwh", at.isoformat()) == swap
    assert await both.run(lambda it: it.delete_meter_swap(*asked)) is None
    with pytest.raises(NotFound, match="there is no meter swap"):
        await both.awaiting.delete_meter_swap(*asked)


@pytest.mark.asyncio
async def test_state_of_city_and_service_is_told(both: Both, city: City, connection: asyncpg.Connection) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    await city.add([Row(now - timedelta(minutes=5), DEVICES[0], {"power_w": 41.5, "lamp_on": True})])
    await connection.execute(
        "INSERT INTO quarantine (received_at, topic, domain, device_id, reason, detail, payload)"
        " SELECT now(), 'city/v1/lighting/lamp-1', 'lighting', 'lamp-1', 'schema', 'no', unnest($1::bytea[])",
        [b"\xff\x00", b"{}", b"[1]"],
    )
    await connection.execute(
        "INSERT INTO ledger (hour, domain, worker, outcome, readings)"
        " SELECT date_trunc('hour', now()), 'lighting', 'w', *"
        " FROM (VALUES ('received', 4), ('stored', 1), ('schema', 3)) AS counted"
    )
    seen = await both.ask("latest", "lighting", page_size=2)
    assert (
        [each.device_id for each in seen[0]] == [each.device_id for each in seen[1]] == [d.device_id for d in DEVICES]
    )
    assert (seen[0][0].status, seen[0][0].values["power_w"].value, seen[0][0].values["lamp_on"].value) == (
        "online",
        41.5,
        True,
    )
    assert (seen[0][1].status, seen[0][1].time, seen[0][1].values) == ("silent", None, {})
    page = await both.run(lambda it: next(it.latest("lighting", device="lamp-1").pages()))
    assert page.meta.as_of - page.rows[0].time == timedelta(seconds=page.rows[0].age_s)

    refused = await both.same("quarantine", reason=["schema"], page_size=2)
    assert [each.raw for each in refused] == [b"[1]", b"{}", b"\xff\x00"]
    assert await both.same("quarantine_entry", refused[0].id) == refused[0]
    summary = await both.same("quarantine_summary", start="-1h")
    assert (summary.count, [each.reason for each in summary]) == (3, ["schema"])
    ledger, _ = await both.ask("ledger", domain="lighting")
    assert ledger.balanced
    assert ledger.totals == ledger.domains["lighting"] == Account(4, 1, 0, 0, 3, 0, {"schema": 3})
    assert [(each.hour.minute, each.received) for each in ledger] == [(0, 4)]
    assert ledger.broker.messages_dropped is None

    domains = await both.same("domains")
    assert domains["lighting"].metrics["power_w"].unit == "W"
    assert "lamp" in domains["lighting"].metrics["fault"].options
    assert (await both.same("health")).is_ready
    assert (await both.same("version")).name == "urban-telemetry"
    await connection.execute("ALTER TABLE telemetry_meta RENAME TO telemetry_meta_away")
    assert await both.same("health") == Health(
        False, detail="the database has no such tables yet; run `telemetry db migrate`"
    )


@pytest.mark.asyncio
async def test_changes_go_on_from_where_they_ended(both: Both, city: City, settings: Settings) -> None:
    then = (datetime.now(UTC) - timedelta(days=2)).replace(hour=6, minute=0, second=0, microsecond=0)
    asked: dict[str, Any] = {"start": then, "end": then + timedelta(hours=1), "window": "15m"}
    quarters = [timedelta(minutes=minute) for minute in (1, 16, 31)]
    await city.add(Row(then + each, DEVICES[0], {"power_w": 1.0}) for each in quarters)
    await run_once(settings)
    bill = await both.awaiting.series("lighting", "power_w", **asked)
    assert bill.meta.closed_until is not None
    assert (await both.same("changes", "lighting", since=bill.as_of)).rows == ()
    await city.add(Row(then + each * 1.1, DEVICES[0], {"power_w": 1.0}) for each in quarters)
    await run_once(settings)
    found = await both.same("changes", "lighting", since=bill.as_of, page_size=1, tz="UTC")
    assert [(each.bucket - then, each.late, each.reasons) for each in found] == [
        (timedelta(minutes=minute), 1, ("late",)) for minute in (0, 15, 30)
    ]
    assert found.as_of > bill.as_of == found.since
    assert len(await both.same("changes", "lighting", since=found.as_of)) == 0
    assert len(await both.same("changes", "lighting", since=bill.as_of, window="1h")) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("limits", [{"max_rows_read": 5}], indirect=True)
async def test_refusals_say_what_was_wrong_and_what_is_allowed(
    both: Both, city: City, connection: asyncpg.Connection
) -> None:
    await city.add(night())
    await connection.execute("ANALYZE")
    with pytest.raises(
        InvalidParameter, match=r"422 invalid-parameter: metric: .*given: 'power'; allowed: .*power_w"
    ) as told:
        await both.awaiting.series("lighting", "power")
    assert (told.value.parameter, told.value.given, "power_w" in told.value.allowed) == ("metric", "power", True)
    assert (told.value.status, told.value.kind, told.value.retry_after) == (422, "invalid-parameter", None)
    with pytest.raises(TooLarge, match=r"estimate: .*, limit: ") as large:
        await both.run(lambda it: it.series("lighting", "power_w", agg="p99", **NIGHTS))
    assert large.value.estimate is not None
    assert large.value.limit is not None
    assert large.value.estimate > large.value.limit
    with pytest.raises(NotFound, match="there is no domain 'traffic'; there are energy, lighting"):
        await both.run(lambda it: it.readings("traffic").to_list())
    with pytest.raises(Conflict, match="device-has-readings"):
        await both.awaiting.delete_device("lamp-1")
