"""Alerts ask for metrics that the processes show, under the names that they show them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from telemetry.api.metrics import Metrics as ApiMetrics
from telemetry.ingest.metrics import Metrics as IngestMetrics
from telemetry.ingest.metrics import WorkerMetrics
from tests.unit.deploy.compose import ROOT

FOLDER = ROOT / "deploy" / "prometheus"


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def shown(registry: CollectorRegistry) -> set[str]:
    """Names of the samples of a registry, also of those that have none yet."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    return {metric.name + suffix for metric in registry.collect() for suffix in suffixes.get(metric.type, ("",))}


METRICS = shown(IngestMetrics().registry) | shown(WorkerMetrics().registry) | shown(ApiMetrics().registry) | {"up"}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_alert_asks_for_metrics_that_exist(rule: dict[str, Any]) -> None:
    asked = set(re.findall(r"\btelemetry_\w+|\bup\b", rule["expr"]))
    assert asked
    assert asked <= METRICS


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert len(rule["annotations"]["description"]) > 40


def test_labels_of_readings_are_those_of_the_metric() -> None:
    (rule,) = [rule for rule in rules() if rule["alert"] == "TelemetryQuarantine"]
    used = set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", rule["expr"])) | {"domain"}
    metrics = IngestMetrics()
    metrics._readings.labels("waste", "stored")
    (sample,) = [
        sample
        for each in metrics.registry.collect()
        for sample in each.samples
        if sample.name == "telemetry_ingest_readings_total"
    ]
    assert used == set(sample.labels)


def test_rules_are_found_where_prometheus_is_told_to_look() -> None:
    assert yaml.safe_load((FOLDER / "prometheus.yml").read_text())["rule_files"] == ["/etc/prometheus/alerts.yml"]
