"""Grafana's dashboards and provisioning as the files in deploy/grafana say, read for tests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "grafana"
Json = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """One query of a panel.

    Attributes:
        dashboard: name of the file, without its ending.
        kind: type of the panel, e.g. `timeseries`.
        format: `time_series` or `table`.
    """

    dashboard: str
    panel: str
    kind: str
    format: str
    sql: str
    columns_named: frozenset[str]
    """Columns that the panel's overrides rely on."""

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}"


def dashboards() -> dict[str, Json]:
    """Every dashboard by the name of its file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))}


def data_sources() -> list[Json]:
    """What the provisioning makes."""
    path = FOLDER / "provisioning" / "datasources" / "telemetry.yaml"
    found: list[Json] = yaml.safe_load(path.read_text())["datasources"]
    return found


def variables(dashboard: Json) -> dict[str, Json]:
    """The variables of a dashboard by name, in the order in which Grafana fills them."""
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def queries() -> Iterator[Query]:
    """Every query of every panel."""
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield Query(
                    dashboard=name,
                    panel=panel["title"],
                    kind=panel["type"],
                    format=target["format"],
                    sql=target["rawSql"],
                    columns_named=_columns_named(panel),
                )


def relations(sql: str) -> set[str]:
    """What a query reads: everything behind FROM and JOIN that is neither a subquery nor one of its own WITH names."""
    read = set(re.findall(r"\b(?:FROM|JOIN)\s+([a-z_][\w.]*(?:\$\{\w+\})?)", sql))
    read -= set(re.findall(r"\b(\w+) AS (?:MATERIALIZED )?\(\s*SELECT", sql))
    return {name for name in read if not re.search(rf"epoch FROM {re.escape(name)}\b", sql)}


def _columns_named(panel: Json) -> frozenset[str]:
    overrides = panel["fieldConfig"]["overrides"]
    return frozenset(each["matcher"]["options"] for each in overrides if each["matcher"]["id"] == "byName")
