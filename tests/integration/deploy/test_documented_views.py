"""docs/grafana.md names every view with exactly its columns, and its queries run as the role that it describes."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import pytest

from telemetry.domains import load_domains
from tests.integration.deploy.conftest import FilledDatabase
from tests.unit.deploy.documents import code_words, fenced, tables, text
from tests.unit.deploy.macros import View, expand

GUIDE = text("grafana")
DOMAINS = load_domains()
QUERIES = fenced(GUIDE, "sql")
(VIEWS,) = [table[1:] for table in tables(GUIDE) if table[0] == ["view", "one row is", "columns"]]
(KINDS,) = [table[1:] for table in tables(GUIDE) if table[0] == ["kind of metric", "columns"]]


def documented() -> dict[str, set[str]]:
    """Columns by view, the metrics put in where the guide says so."""
    raw, rolled_up, *others = VIEWS
    number, state = ({word.removeprefix("m") for word in code_words(cell)} for _, cell in KINDS)
    columns = {code_words(name)[0]: set(code_words(cells)) for name, _, cells in others}
    for domain in code_words(raw[0]):
        metrics = DOMAINS[domain].metrics.values()
        columns[domain] = {*code_words(raw[2]), *(metric.name for metric in metrics)}
        for suffix in code_words(rolled_up[0]):
            columns[domain + suffix] = set(code_words(rolled_up[2])) | {
                metric.name + ending
                for metric in metrics
                for ending in (number if metric.value_type == "number" else state)
            }
    return columns


@pytest.mark.asyncio
async def test_views_and_columns_are_those_of_the_guide(reader: asyncpg.Connection) -> None:
    rows = await reader.fetch(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'grafana'"
    )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["table_name"], set()).add(row["column_name"])
    assert found == documented()


def test_states_are_named() -> None:
    states = {
        metric.name
        for domain in DOMAINS.values()
        for metric in domain.metrics.values()
        if metric.value_type != "number"
    }
    assert set(code_words(KINDS[1][0])) == states


@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(len(QUERIES)))
async def test_query_of_the_guide_has_an_answer(
    reader: asyncpg.Connection, filled: FilledDatabase, number: int
) -> None:
    view = View(filled.span.start - timedelta(minutes=1), filled.span.end)
    assert await reader.fetch(expand(QUERIES[number], view))
