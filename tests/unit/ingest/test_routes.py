"""Which messages the session of strays leaves."""

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
