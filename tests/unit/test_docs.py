"""The guides: links lead somewhere, and the metrics and quarantine reasons they list are those that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from telemetry.errors import Reason
from telemetry.ingest.metrics import Metrics, WorkerMetrics, of_process

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
INGEST = (ROOT / "docs" / "ingest.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_every_quarantine_reason_is_explained() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| ", INGEST, re.MULTILINE)) >= set(Reason)


def test_every_metric_of_ingest_is_explained() -> None:
    listed = set(re.findall(r"^\| `((?:telemetry_ingest|process)_\w+)", INGEST, re.MULTILINE))
    registries = (Metrics().registry, WorkerMetrics().registry, of_process())
    families = [family for registry in registries for family in registry.collect()]
    assert listed == {family.name + ("_total" if family.type == "counter" else "") for family in families}


def test_every_decision_is_listed() -> None:
    listed = (ROOT / "docs" / "adr" / "README.md").read_text()
    assert [path.name for path in (ROOT / "docs" / "adr").glob("0*.md") if path.name not in listed] == []
