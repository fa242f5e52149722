"""Edges as a parameter: few are sent as they are; many that are even are made by the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from telemetry.query.calendar import bucket_edges, parse_window
from telemetry.query.size import MANY
from telemetry.query.sql import LONG, Statement

START = datetime(2026, 10, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "days", "made"), [("1d", 90, False), ("15m", 1, False), ("15m", 30, True), ("6h", 30, True)]
)
def test_long_even_stretches_are_not_sent(window: str, days: int, made: bool) -> None:
    edges = bucket_edges(parse_window(window), START, START + timedelta(days=days), ZoneInfo("Europe/Paris"))
    statement = Statement()
    placeholder = statement.add_edges(edges)
    assert (len(edges) >= LONG) is made
    if made:
        assert "generate_series" in placeholder
        assert statement.values[0] == edges[0]
        assert statement.values[-2] == edges[-1]
    else:
        assert (placeholder, statement.values) == ("$1::timestamptz[]", [[*edges]])


@pytest.mark.parametrize(("window", "days", "how"), [("1m", 20, "generate_series"), ("3h", 8 * 365, "string_to_array")])
def test_very_many_edges_are_made_once_and_never_sent_as_instants(window: str, days: int, how: str) -> None:
    edges = bucket_edges(parse_window(window), START, START + timedelta(days=days), ZoneInfo("Europe/Paris"))
    statement = Statement()
    assert len(edges) > MANY
    assert statement.add_edges(edges) == "(SELECT edges FROM laid)"
    assert how in statement.beginning
    assert not any(isinstance(value, list) for value in statement.values)
