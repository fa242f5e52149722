"""Which messages the session of strays leaves, and what of the topics and fields seen is remembered."""

from __future__ import annotations

import pytest

from telemetry.domains import load_domains
from telemetry.errors import Reason
from telemetry.ingest.routes import Routes


@pytest.mark.parametrize("topic", ["c/waste/bin", "c/waste/bin/x", "c/waste/?", "c/waste"])
def test_stray_session_leaves_what_the_filter_of_a_domain_matches(topic: str) -> None:
    route = Routes("c", load_domains(), strays=True)[topic]
    assert route.left
    assert route.sort is None
    assert not Routes("c", load_domains())[topic].left


@pytest.mark.parametrize("topic", ["c/wast/bin", "c/", "c", "c//waste/bin", "c/Waste/bin"])
def test_stray_session_keeps_what_no_domain_takes(topic: str) -> None:
    route = Routes("c", load_domains(), strays=True)[topic]
    assert not route.left
    assert route.fault is not None
    assert route.fault.reason is Reason.UNKNOWN_TOPIC


@pytest.mark.parametrize("strays", [False, True])
def test_route_of_a_good_topic_is_remembered(strays: bool) -> None:
    routes = Routes("c", load_domains(), strays)
    assert routes["c/waste/bin"] is routes["c/waste/bin"]
    assert list(routes) == ["c/waste/bin"]


@pytest.mark.parametrize("strays", [False, True])
@pytest.mark.parametrize("topic", ["c/wast/bin", "c/waste/" + "a" * 60_000, "d" * 60_000])
def test_topics_that_somebody_makes_up_are_not_remembered(topic: str, strays: bool) -> None:
    routes = Routes("c", load_domains(), strays)
    assert routes[topic].domain == ("waste" if "waste" in topic and not strays else "unknown")
    assert not routes


def test_fields_that_are_no_metrics_are_not_remembered() -> None:
    sort = Routes("c", load_domains())["c/waste/bin"].sort
    assert sort is not None
    assert sort.shapes["fill_level_pct", "x" * 60_000] is None
    assert sort.shapes[()] is None
    assert sort.shapes["fill_level_pct",] is sort.shapes["fill_level_pct",]
    assert list(sort.shapes) == [("fill_level_pct",)]
