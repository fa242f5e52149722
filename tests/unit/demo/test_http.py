"""Reading a Prometheus text."""

from __future__ import annotations

import pytest

from telemetry.demo.http import get, metric

TEXT = """\
# HELP messages_total Messages
# TYPE messages_total counter
messages_total{domain="waste"} 3.0
messages_total{domain="energy"} 4.0
lag_seconds 0.25
"""


@pytest.mark.parametrize(("name", "value"), [("messages_total", 7.0), ("lag_seconds", 0.25), ("messages", None)])
def test_metric_is_the_sum_over_its_labels(name: str, value: float | None) -> None:
    assert metric(TEXT, name) == value


@pytest.mark.asyncio
async def test_get_where_nobody_listens_is_none() -> None:
    assert await get("http://127.0.0.1:9/", within_s=1) is None
