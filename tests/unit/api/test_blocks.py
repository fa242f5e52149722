"""Rows of numbers that are written column by column are those that are written point by point."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from telemetry.api.columns import series_batches, series_schema
from telemetry.api.csv_rows import csv_rows
from telemetry.api.dialects import Dialect
from telemetry.api.encoding import json_rows
from telemetry.domains import load_domains
from telemetry.query.calendar import bucket_edges
from telemetry.query.columns import Columns
from telemetry.query.coverage import Expected
from telemetry.query.plan import Plan
from telemetry.query.question import Asked, understand
from telemetry.query.scope import Scope
from telemetry.query.series import Series

NOW = datetime(2026, 11, 25, tzinfo=UTC)
START, END = "2026-10-25T00:00:00Z", "2026-10-25T04:00:00Z"
DEVICES = ["meter-1", "meter:2", "m.3"]
FLEET = [(1, 0.0125), (3, 0.025)]
ZONES = ["Centre", 'Old "Port", east', "été; =1", None]


def an_answer(by: str, groups: list[Any], agg: tuple[str, ...], fleets: bool) -> Series:
    """Four hours of two metrics; a row without samples of the first, of the second, and a value that is null."""
    asked = Asked(metric=("active_power_w", "energy_import_kwh"), agg=agg, start=START, end=END, by=by)
    question = understand(load_domains()["energy"], asked, "Europe/Paris", NOW)
    edges = bucket_edges(question.window, question.start, question.end, question.zone)
    values = [1.5, 1e22, 5e-324, -0.1][: len(agg)]
    rows: list[tuple[Any, ...]] = []
    for bucket in range(1, len(edges)):
        for number, group in enumerate(groups):
            interval = 60.0 if by == "device" and number else None
            first = [0, *[None] * len(agg)] if (bucket + number) % 3 == 0 else [60 - bucket, *values]
            second = [0, *[None] * len(agg)] if (bucket + number) % 4 == 0 else [number + 1, *values[:-1], None]
            rows.append((bucket, group, interval, *first, *second))
    expected = Expected([3600.0] * 4, {("active_power_w", group): FLEET for group in groups} if fleets else {})
    scope = Scope(NOW, None, "Europe/Paris", (), None, len(groups))
    return Series(Plan(question, edges, (), ()), expected, scope, Columns.of_many(cast(Any, rows)))


@pytest.mark.parametrize("agg", [("avg",), ("avg", "min", "count", "last")])
@pytest.mark.parametrize(
    ("by", "groups", "fleets"), [("none", [0], True), ("device", DEVICES, False), ("zone", ZONES, True)]
)
def test_columns_and_points_make_the_same_rows(by: str, groups: list[Any], fleets: bool, agg: tuple[str, ...]) -> None:
    found = an_answer(by, [None] if by == "none" and fleets else groups, agg, fleets)
    pointwise = replace(found, rows=None, made=found.points)
    assert len(found.points) > 4

    def rows_of(series: Series) -> list[Any]:
        return cast(list[Any], json.loads(f"[{','.join(text for texts in json_rows(series, ',') for text in texts)}]"))

    assert rows_of(found) == rows_of(pointwise)
    for dialect in (Dialect(), Dialect(is_excel=True)):
        fast, slow = (
            "\r\n".join(text for texts in csv_rows(series, dialect) for text in texts) for series in (found, pointwise)
        )
        assert fast.replace("e+22", "e22") == slow.replace("e+22", "e22")
    schema = series_schema(found.plan.question, {})
    assert [*series_batches(found, schema)] == [*series_batches(pointwise, schema)]
