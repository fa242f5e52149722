"""Every operation of the OpenAPI document with values that fit it and values that do not: no error of ours, and only
statuses, media types and shapes that the document names.

Most parameters are text, and made-up text ends at the first check. So values that mean something are mixed in, which
lead on into planning and SQL. `TELEMETRY_TEST_FUZZ=2000` draws as many examples per operation, other ones each time.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from telemetry.demo.mosquitto import free_port
from telemetry.settings import Settings
from telemetry.upkeep.rounds import run_once
from tests.integration.api.filled import fill
from tests.integration.query.rows import City
from tests.support.serving import served

DEPTH = os.environ.get("TELEMETRY_TEST_FUZZ")
EXAMPLES = int(DEPTH or 12)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
TIMES = [
    "now",
    "-1h",
    "-24h",
    "-7d",
    "-1w",
    "2026-11-20T00:00:00Z",
    "2026-10-25T02:30:00+01:00",
    "1970-01-01T00:00:00Z",
]
MEANT: dict[str, list[Any]] = {
    "domain": ["lighting", "energy", "parking", "waste"],
    "metric": [["power_w"], ["energy_kwh"], ["lamp_on", "fault"], ["power_w", "voltage_v"]],
    "agg": [["avg"], ["min", "max"], ["p50"], ["stddev"], ["increase"], ["share"], ["integral"], ["first", "last"]],
    "percentile": [[50], [99.9], [0, 100], [1e-300], [33.33335]],
    "start": TIMES,
    "end": TIMES,
    "since": TIMES,
    "window": ["1s", "1m", "15m", "1h", "6h", "1d", "1w", "1mo", "1y", "PT15M", "P1D"],
    "by": ["none", "device", "zone"],
    "combine": ["rows", "sum", "mean"],
    "device": [["lamp-1"], ["lamp-1", "lamp-4"]],
    "zone": [["North"], ["South", "North"]],
    "tz": ["UTC", "Europe/Paris", "Asia/Kolkata", "Pacific/Apia", "America/St_Johns"],
    "fill": ["none", "null", "zero", "locf", "linear"],
    "max_gap": ["1h", "P1D", "60d", "36600d", "1s"],
    "min_coverage": [0, 0.5, 1],
    "reset": ["zero", "first"],
    "format": ["json", "ndjson", "csv"],
    "order": ["asc", "desc"],
    "limit": [1, 2, 10_000],
    "number": [1, 2**63 - 1],
    "device_id": ["lamp-1", "new-1"],
    "counter": ["energy_kwh", "burning_hours_h", "power_w"],
    "time": [*TIMES, f"{datetime.now(UTC) - timedelta(hours=30):%Y-%m-%dT%H:%M:%SZ}"],
    "reason": [["malformed"], ["out_of_range"]],
}

TOGETHER: list[dict[str, Any]] = [
    {"window": "1s", "start": "-10s", "fill": "locf", "max_gap": "60d"},
    {"window": "1s", "start": "-10s", "fill": "linear", "max_gap": "36600d"},
    {"window": "1s", "start": "-60d"},
]
"""Small questions that would have a large answer, or look far for a small one."""


def meaningful(case: Any, draw: Any) -> None:
    """Puts values that mean something in place of some that were made up, and adds some."""
    for place in (case.path_parameters, case.query):
        for name in list(place or ()):
            if name in MEANT and draw(st.integers(0, 3)):
                place[name] = draw(st.sampled_from(MEANT[name]))
    if case.path.endswith("/series") and draw(st.integers(0, 3)):
        case.query = {"metric": draw(st.sampled_from(MEANT["metric"]))} | dict(case.query or {})
        if not draw(st.integers(0, 3)):
            case.query |= draw(st.sampled_from(TOGETHER))


def attack(url: str, mode: GenerationMode) -> None:
    """Asks every operation; raises on the first answer that the document does not allow."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", timeout=60)
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()

        @examples(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=DEPTH is None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(mode), data=st.data())
        def ask(case: Any, data: st.DataObject) -> None:
            meaningful(case, data.draw)
            case.call_and_validate(base_url=url, checks=CHECKS, timeout=60)

        # What takes no parameter cannot be asked wrongly.
        with suppress(Unsatisfiable):
            ask()


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.filterwarnings("default")
async def test_answers_are_those_that_are_documented(
    settings: Settings, connection: asyncpg.Connection, city: City, mode: GenerationMode
) -> None:
    await fill(city)
    await run_once(settings)
    async with served(settings, port := free_port()):
        await asyncio.to_thread(attack, f"http://127.0.0.1:{port}", mode)
