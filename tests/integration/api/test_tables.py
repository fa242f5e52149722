"""Answers as Arrow streams and Parquet files, read by the libraries that people use: pyarrow, Polars, DuckDB."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import httpx
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from telemetry.api import formats, tables
from tests.integration.api.test_formats import MIXED, NOON, fill, get
from tests.integration.query.rows import City, Row

CLOCKS_GO_BACK: dict[str, Any] = {
    "start": "2026-10-25T00:00:00Z",
    "end": "2026-10-25T03:00:00Z",
    "tz": "Europe/Paris",
}


def arrow(answer: httpx.Response) -> pa.Table:
    """The table of an Arrow stream."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
    return pa.ipc.open_stream(answer.content).read_all()


def parquet(answer: httpx.Response) -> pa.Table:
    """The table of a Parquet file."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    return pq.ParquetFile(io.BytesIO(answer.content)).read()


READERS = {"arrow": arrow, "parquet": parquet}


def as_json(table: pa.Table) -> list[dict[str, Any]]:
    """The rows as JSON has them: labels with offsets, maps as objects."""
    rows = table.to_pylist(maps_as_pydicts="strict")
    return [row | {"bucket": row["bucket"].isoformat()} for row in rows]


@pytest.mark.asyncio
@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize("whole", [True, False])
async def test_table_has_the_rows_of_json(
    client: httpx.AsyncClient, city: City, monkeypatch: pytest.MonkeyPatch, form: str, whole: bool
) -> None:
    await fill(city)
    monkeypatch.setattr(tables, "ROW_GROUP", 10)
    if not whole:
        monkeypatch.setattr(formats, "WHOLE", 0)
    asked = {**MIXED, "tz": "Asia/Kolkata", "explain": "true"}
    wanted = (await get(client, **asked)).json()
    answer = await get(client, **asked, format=form)
    table = READERS[form](answer)
    assert as_json(table) == [{name: row.get(name) for name in table.column_names} for row in wanted["data"]]
    meta = json.loads(table.schema.metadata[b"meta"])
    assert meta.keys() == wanted["meta"].keys()
    assert {**meta, "as_of": ""} == {**wanted["meta"], "as_of": ""}
    assert ("content-length" in answer.headers) is whole


@pytest.mark.asyncio
@pytest.mark.parametrize("form", READERS)
async def test_plain_answer_that_is_streamed_has_every_row(
    client: httpx.AsyncClient, city: City, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    await fill(city, hours=3)
    asked: dict[str, Any] = {
        "by": "device",
        "window": "1m",
        "agg": ["avg", "count"],
        "metric": ["power_w", "voltage_v"],
    }
    wanted = (await get(client, **asked)).json()["data"]
    monkeypatch.setattr(formats, "WHOLE", 5)
    monkeypatch.setattr("telemetry.query.answering.PART", 7)
    table = READERS[form](await get(client, **asked, tz="UTC", format=form))
    assert len(wanted) == 48
    assert as_json(table) == wanted
    assert (await get(client, **asked)).json()["data"] == wanted


@pytest.mark.asyncio
@pytest.mark.parametrize("form", READERS)
async def test_columns_have_types(client: httpx.AsyncClient, city: City, form: str) -> None:
    await fill(city)
    schema = READERS[form](
        await get(client, agg=["avg", "count"], by="device", tz="Europe/Paris", fill="null", format=form)
    ).schema
    assert [(each.name, str(each.type), each.nullable) for each in schema] == [
        ("bucket", "timestamp[us, tz=Europe/Paris]", False),
        ("device_id", "string", False),
        ("metric", "string", False),
        ("avg", "double", True),
        ("count", "int64", True),
        ("samples", "int64", False),
        ("coverage", "double", True),
        ("filled", "bool", False),
    ]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("metric", "aggregate", "kind"),
    [
        (["lamp_on"], "last", "bool"),
        (["fault"], "last", "string"),
        (["power_w"], "last", "double"),
        (["lamp_on"], "share", "double"),
        (["fault"], "share", "map<string, double>"),
        (["fault", "lamp_on"], "duration", "string"),
        (["power_w", "energy_kwh"], "last", "double"),
        (["power_w", "lamp_on", "fault"], "last", "string"),
        (["power_w", "lamp_on", "fault"], "count", "int64"),
    ],
)
async def test_column_of_an_aggregate_has_the_type_of_its_values(
    client: httpx.AsyncClient, city: City, metric: list[str], aggregate: str, kind: str
) -> None:
    values = {"power_w": 41.5, "energy_kwh": 7.0, "lamp_on": True, "fault": "lamp"}
    await city.add([Row(NOON, city.devices[0], values), Row(NOON + timedelta(hours=1), city.devices[0], values)])
    asked: dict[str, Any] = {"metric": metric, "agg": aggregate}
    table = arrow(await get(client, **asked, format="arrow"))
    assert str(table.schema.field(aggregate).type) == kind
    told = [row[aggregate] for row in (await get(client, **asked)).json()["data"]]
    found = table.column(aggregate).to_pylist(maps_as_pydicts="strict")
    texts = kind == "string" and metric != ["fault"]
    assert found == ([each if isinstance(each, str) else json.dumps(each) for each in told] if texts else told)


@pytest.mark.asyncio
@pytest.mark.parametrize("form", READERS)
async def test_answer_without_rows_is_a_table_without_rows(client: httpx.AsyncClient, city: City, form: str) -> None:
    for table in (
        READERS[form](await get(client, format=form)),
        READERS[form](await client.get("/v1/lighting/readings", params={"format": form})),
    ):
        assert (table.num_rows, b"meta" in table.schema.metadata) == (0, True)


@pytest.mark.asyncio
async def test_polars_and_duckdb_tell_both_passes_of_the_repeated_hour_apart(
    client: httpx.AsyncClient, city: City, tmp_path: Path
) -> None:
    midnight = datetime(2026, 10, 25, tzinfo=UTC)
    await city.add(Row(midnight + timedelta(hours=n), city.devices[0], {"power_w": float(n)}) for n in range(3))
    stream = await client.get("/v1/lighting/series", params={"metric": "power_w", **CLOCKS_GO_BACK, "format": "arrow"})
    frame = pl.read_ipc_stream(io.BytesIO(stream.content))
    assert frame.schema["bucket"] == pl.Datetime("us", "Europe/Paris")
    assert frame["bucket"].dt.strftime("%H:%M%z").to_list() == ["02:00+0200", "02:00+0100", "03:00+0100"]
    file = await client.get("/v1/lighting/series", params={"metric": "power_w", **CLOCKS_GO_BACK, "format": "parquet"})
    (tmp_path / "power.parquet").write_bytes(file.content)
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        relation = database.sql(f"SELECT bucket::text, avg FROM '{tmp_path}/power.parquet' ORDER BY bucket")
        assert relation.fetchall() == [(f"2026-10-25 0{n}:00:00+00", float(n)) for n in range(3)]


@pytest.mark.asyncio
@pytest.mark.parametrize("form", READERS)
async def test_raw_rows_come_as_tables_page_by_page(client: httpx.AsyncClient, city: City, form: str) -> None:
    values = {"power_w": 41.5, "lamp_on": True, "fault": "lamp"}
    await city.add(Row(NOON + timedelta(minutes=n), city.devices[0], values) for n in range(3))
    asked: dict[str, Any] = {"start": "2026-11-01T12:00:00Z", "end": "2026-11-01T13:00:00Z", "limit": 2, "tz": "UTC"}
    wanted = (await client.get("/v1/lighting/readings", params=asked)).json()
    answer = await client.get("/v1/lighting/readings", params={**asked, "format": form})
    table = READERS[form](answer)
    rows = [
        {**row, "time": row["time"].isoformat(), "received_at": row["received_at"].isoformat()}
        for row in table.to_pylist()
    ]
    assert rows == wanted["data"]
    assert json.loads(table.schema.metadata[b"meta"]) == wanted["meta"]
    assert wanted["meta"]["next"] in answer.headers["link"]
    types = {each.name: str(each.type) for each in table.schema}
    assert (types["power_w"], types["lamp_on"], types["fault"]) == ("double", "bool", "string")
    assert types["time"] == types["received_at"] == "timestamp[us, tz=UTC]"


@pytest.mark.asyncio
async def test_parquet_is_not_compressed_twice(client: httpx.AsyncClient, city: City) -> None:
    await fill(city, hours=3)
    asked: dict[str, Any] = {"window": "1m", "by": "device", "fill": "null"}
    encodings = {
        form: (await get(client, {"Accept-Encoding": "gzip"}, **asked, format=form)).headers.get("content-encoding")
        for form in READERS
    }
    assert encodings == {"arrow": "gzip", "parquet": None}
