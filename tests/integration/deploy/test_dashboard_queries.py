"""Every query of every dashboard, run as Grafana runs it, on both engines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from tests.integration.deploy.conftest import FilledDatabase
from tests.integration.deploy.filled_city import FLEET, UNNAMED
from tests.unit.deploy.dashboards import Json, Query, dashboards, queries, variables
from tests.unit.deploy.macros import All, View, expand

NUMBERS = {"int2", "int4", "int8", "float4", "float8", "numeric"}
TEXTS = {"text", "varchar"}
BOARDS = dashboards()
QUERIES = list(queries())
DRAWN_FROM_A_WINDOW = [query for query in QUERIES if "${window}" in query.sql]
CHOICES: dict[str, Mapping[str, Sequence[str]]] = {
    "one zone": {"zone": ["centre"]},
    "devices": {"device": [device.device_id for device in FLEET[:40]]},
    "one domain": {"domain": ["waste"], "device": ["bin-00001"]},
    "unnamed": {"zone": ["no zone"], "device": [UNNAMED]},
    "nothing": {"zone": ["nowhere's"], "device": ["none"], "domain": ["none"]},
}


def view(
    filled: FilledDatabase, query: Query, window: str = "15m", chosen: Mapping[str, Sequence[str]] | None = None
) -> View:
    """All three days, everything chosen unless said otherwise."""
    values: dict[str, Sequence[str] | str] = {}
    for name, variable in variables(BOARDS[query.dashboard]).items():
        values[name] = (chosen or {}).get(name, All(variable["allValue"]) if variable["type"] == "query" else window)
    return View(filled.span.start - timedelta(minutes=1), filled.span.end, values)


async def run(reader: asyncpg.Connection, query: Query, chosen: View) -> tuple[dict[str, str], list[asyncpg.Record]]:
    """Types of the columns by name, and the rows."""
    statement = await reader.prepare(expand(query.sql, chosen))
    columns = [(attribute.name, attribute.type.name) for attribute in statement.get_attributes()]
    assert len(dict(columns)) == len(columns), f"two columns have the same name: {columns}"
    return dict(columns), await statement.fetch()


def named(dashboard: str, panel: str) -> Query:
    """A query by the title of its panel."""
    (found,) = [query for query in QUERIES if (query.dashboard, query.panel) == (dashboard, panel)]
    return found


@pytest.mark.asyncio
@pytest.mark.parametrize("query", QUERIES, ids=str)
async def test_panel_shows_rows_of_its_kind(reader: asyncpg.Connection, filled: FilledDatabase, query: Query) -> None:
    columns, rows = await run(reader, query, view(filled, query))
    assert rows
    assert columns.keys() >= query.columns_named
    check_columns(query, columns, rows)


def check_columns(query: Query, columns: Mapping[str, str], rows: Sequence[asyncpg.Record]) -> None:
    """Whether the columns are what a panel of that type can show."""
    numbers = [name for name, type_ in columns.items() if type_ in NUMBERS and name != "time"]
    assert numbers or query.kind == "table"
    if query.kind == "timeseries":
        check_series(columns, numbers, rows)
    elif query.kind in ("stat", "gauge"):
        assert len(rows) == 1
        assert set(numbers) == set(columns)
        assert all(rows[0][name] is not None for name in numbers)
    elif query.kind == "geomap":
        assert {"latitude", "longitude"} <= set(numbers)
    else:
        assert query.kind == "table"


def check_series(columns: Mapping[str, str], numbers: Sequence[str], rows: Sequence[asyncpg.Record]) -> None:
    """Time first and rising, then numbers; one number where a metric names the curves, or the names would be double."""
    assert columns["time"] in {"timestamptz", "numeric"}
    texts = [name for name, type_ in columns.items() if type_ in TEXTS]
    assert texts in ([], ["metric"])
    assert {"time", *texts, *numbers} == set(columns)
    assert not texts or len(numbers) == 1
    times = [row["time"] for row in rows]
    assert times == sorted(times)
    points = [(row["time"], *(row[name] for name in texts)) for row in rows]
    assert len(set(points)) == len(points)
    assert all(any(row[name] is not None for row in rows) for name in numbers)


@pytest.mark.asyncio
@pytest.mark.parametrize("window", ["1h", "1d"])
@pytest.mark.parametrize("query", DRAWN_FROM_A_WINDOW, ids=str)
async def test_curves_can_be_drawn_from_a_wider_window(
    reader: asyncpg.Connection, filled: FilledDatabase, query: Query, window: str
) -> None:
    columns, rows = await run(reader, query, view(filled, query, window))
    if query.panel != "Faulty lamps by kind" or window == "1h":
        assert rows
        check_columns(query, columns, rows)


@pytest.mark.asyncio
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("query", QUERIES, ids=str)
async def test_panel_takes_any_choice(
    reader: asyncpg.Connection, filled: FilledDatabase, query: Query, choice: str
) -> None:
    _, rows = await run(reader, query, view(filled, query, chosen=CHOICES[choice]))
    if query.kind in ("stat", "gauge"):
        assert len(rows) == 1
    elif choice == "nothing" and query.dashboard != "data-quality":
        assert rows == []


@pytest.mark.asyncio
@pytest.mark.parametrize("dashboard", BOARDS)
async def test_variables_offer_what_can_be_chosen(
    reader: asyncpg.Connection, filled: FilledDatabase, dashboard: str
) -> None:
    for chosen in ({}, {"zone": ["centre", "no zone"]}):
        offered = {}
        for name, variable in _asked(BOARDS[dashboard]):
            values: dict[str, Any] = {each: All(other["allValue"]) for each, other in _asked(BOARDS[dashboard])}
            sql = expand(variable["query"], View(filled.span.start, filled.span.end, values | chosen))
            rows = await reader.fetch(sql)
            offered[name] = {row["__value"] if "__value" in row else row[0] for row in rows}
            assert len(rows) == len(offered[name]) > 0
            assert set(map(len, rows)) <= {1, 2}
        if "device" in offered and not chosen:
            ids = {device.device_id for device in FLEET if device.domain == dashboard}
            assert ids <= offered["device"]


def _asked(dashboard: Json) -> Iterable[tuple[str, Json]]:
    return [(name, variable) for name, variable in variables(dashboard).items() if variable["type"] == "query"]
