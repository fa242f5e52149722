"""docs/http.md: every route, every parameter of series, every aggregate, every metric and every kind of problem."""

from __future__ import annotations

import re
from pathlib import Path

from telemetry.api import metrics, problems
from telemetry.api.app import create_app
from telemetry.domains import load_domains
from telemetry.query.aggregates import available
from telemetry.query.question import Fill
from telemetry.settings import load_settings

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "http.md").read_text()
PATHS = create_app(load_settings()).openapi()["paths"]


def test_every_route_is_listed() -> None:
    listed = GUIDE.replace("/v1/quarantine/{id}", "/v1/quarantine/{number}").replace("{id}", "{device_id}")
    assert [path for path in PATHS if f"{path}`" not in listed] == []


def test_every_parameter_of_series_is_explained() -> None:
    names = [each["name"] for each in PATHS["/v1/{domain}/series"]["get"]["parameters"]]
    assert [name for name in names if not re.search(rf"[`?&]{name}\b", GUIDE)] == []


def test_every_aggregate_and_fill_is_explained() -> None:
    every = {
        name
        for domain in load_domains().values()
        for metric in domain.metrics.values()
        for name in available(metric)
        if not re.fullmatch(r"p9[05]", name)
    }
    assert [name for name in sorted(every | set(Fill)) if f"`{name}`" not in GUIDE] == []


def test_every_metric_is_listed() -> None:
    families = metrics.Metrics().registry.collect()
    names = [family.name + ("_total" if family.type == "counter" else "") for family in families]
    own = [name for name in names if name.startswith("telemetry_")]
    assert len(own) == 3
    assert [name for name in own if f"| `{name}` |" not in GUIDE] == []


def test_every_kind_of_problem_is_listed() -> None:
    source = "".join(path.read_text() for path in Path(problems.__file__).parent.glob("*.py"))
    kinds = set(re.findall(r'(?:Problem|unavailable)\(\s*(?:HTTPStatus\.\w+,\s*)?"([a-z-]+)"', source))
    assert kinds >= {"not-found", "invalid-parameter", "database-away", "device-has-readings"}
    assert [kind for kind in sorted(kinds) if f"`{kind}`" not in GUIDE] == []
