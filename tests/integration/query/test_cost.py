"""What a question is said to cost, against what its statements read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from telemetry.domains import load_domains
from telemetry.errors import TooLarge
from telemetry.query.aggregates import Family
from telemetry.query.answering import answer
from telemetry.query.cost import Bound, Cost, Sizing
from telemetry.query.database import snapshot
from telemetry.query.plan import Plan
from telemetry.query.question import Asked, Question, understand
from telemetry.settings import Settings
from telemetry.spans import Span
from telemetry.store import devices as registry
from telemetry.upkeep.rounds import run_once

FAST = [registry.Device(f"lamp-{number}", "lighting", zone="North", interval_s=60) for number in range(8)]
SLOW = [registry.Device(f"box-{number}", "lighting", zone="South", interval_s=900) for number in range(8)]
DAY = datetime(2026, 11, 10, tzinfo=UTC)
NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
WHOLE = {"start": "2026-11-10T00:00:00Z", "end": "2026-11-13T00:00:00Z"}
CUT = {"start": "2026-11-10T07:20:00Z", "end": "2026-11-12T01:10:00Z"}
FILL = """
INSERT INTO lighting_readings (time, received_at, device_key, power_w, energy_kwh, lamp_on)
SELECT at, at, device_key, 40, extract(epoch FROM at) / 3600, true
FROM devices, generate_series($1::timestamptz, $1::timestamptz + interval '72 hours' - interval '1 second',
                              make_interval(secs => interval_s)) AS at
"""
LATE = "INSERT INTO late_ranges (domain, bucket) SELECT 'lighting', generate_series($1::timestamptz, $2, '15m')"
COMPRESS = "SELECT compress_chunk(c, true) FROM show_chunks('lighting_readings', older_than => $1::timestamptz) AS c"


async def fill(connection: asyncpg.Connection, settings: Settings, engine: str) -> None:
    """Three days of readings in the roll-ups; where there is a columnstore, the first day is in it."""
    await registry.upsert(connection, [*FAST, *SLOW])
    days = [(DAY + timedelta(days=number)).date() for number in range(3)]
    await connection.execute("SELECT telemetry_ensure_partitions('lighting', $1)", days)
    await connection.execute(FILL, DAY)
    await connection.execute(LATE, DAY, DAY + timedelta(days=3))
    await run_once(settings)
    if engine == "timescaledb":
        await connection.execute(COMPRESS, DAY + timedelta(days=1))


async def cost(connection: asyncpg.Connection, question: Question, max_rows: int = 10**12) -> tuple[Plan, Cost]:
    """The plan of a question and what it is said to cost."""
    async with snapshot(connection, timedelta(seconds=30)) as reading:
        series = await answer(reading, question, 500_000, bound=Bound(Sizing(), max_rows, precise=True))
    assert series.cost is not None
    return series.plan, series.cost


async def read(connection: asyncpg.Connection, plan: Plan) -> int:
    """The rows that the statements of a plan look at, counted."""
    question = plan.question
    scans = [(each.relation, each.spans) for each in plan.segments] * (1 + question.coverage)
    scans += [(each.relation, each.spans) for each in plan.changes] * len(question.chosen(Family.CHANGE))
    others = bool(question.chosen(Family.SPREAD)) + len(question.chosen(Family.TIME))
    scans += [("readings", ((question.start, question.end),))] * others
    return sum([await counted(connection, question, relation, spans) for relation, spans in scans])


async def counted(connection: asyncpg.Connection, question: Question, relation: str, spans: Sequence[Span]) -> int:
    column = "time" if relation == "readings" else "bucket"
    total = 0
    for start, end in spans:
        total += await connection.fetchval(
            f"""SELECT count(*) FROM "lighting_{relation}" JOIN devices USING (device_key)
                WHERE {column} >= $1 AND {column} < $2 AND (cardinality($3::text[]) = 0 OR device_id = ANY ($3))
                  AND (cardinality($4::text[]) = 0 OR zone = ANY ($4))""",
            *(start, end, list(question.devices), list(question.zones)),
        )
    return total


def question(**asked: Any) -> Question:
    form = Asked(**{"metric": ["power_w"], **WHOLE, **asked})
    return understand(load_domains()["lighting"], form, "Europe/Paris", NOW)


QUESTIONS: list[dict[str, Any]] = [
    {"window": "1d", "tz": "UTC"},
    {"window": "15m", "by": "device"},
    {"window": "10m"},
    {"window": "10m", **CUT},
    {"window": "1h", **CUT},
    {"window": "1h", "agg": ["avg", "p95", "stddev"], **CUT},
    {"metric": ["energy_kwh", "lamp_on", "power_w"], "window": "1h"},
    {"metric": ["energy_kwh"], "window": "1h", **CUT},
    {"window": "5m", "zone": ["South"]},
    {"window": "5m", "device": ["lamp-1", "box-1"]},
    {"window": "1h", "device": ["lamp-3"], "by": "device"},
    {"window": "10m", "by": "zone", "coverage": True},
]


@pytest.mark.asyncio
@pytest.mark.parametrize("analysed", [True, False], ids=["analysed", "fresh"])
async def test_estimate_is_near_what_is_read(
    connection: asyncpg.Connection, settings: Settings, engine: str, analysed: bool
) -> None:
    await fill(connection, settings, engine)
    if analysed:
        await connection.execute("ANALYZE")
    factor = 1.5 if analysed else 4
    for asked in QUESTIONS:
        plan, told = await cost(connection, question(**asked))
        rows = await read(connection, plan)
        assert rows / factor <= told.rows <= rows * factor, (asked, told, rows)


@pytest.mark.asyncio
async def test_question_that_would_read_too_much_is_refused_with_both_figures(
    connection: asyncpg.Connection, settings: Settings, engine: str
) -> None:
    await fill(connection, settings, engine)
    await connection.execute("ANALYZE")
    with pytest.raises(
        TooLarge, match=r"would read about [\d,]+ rows, and 5,000 are allowed \(api.max_rows_read\)"
    ) as it:
        await cost(connection, question(window="10m"), 5_000)
    assert (it.value.limit, it.value.estimate > 5_000) == (5_000, True)
    for cheaper in ({"window": "1h"}, {"window": "10m", "device": ["box-1"]}, {"window": "10m", "zone": ["South"]}):
        _, told = await cost(connection, question(**cheaper), 5_000)
        assert 0 < told.rows <= 5_000


@pytest.mark.asyncio
async def test_range_without_readings_costs_nothing(
    connection: asyncpg.Connection, settings: Settings, engine: str
) -> None:
    await fill(connection, settings, engine)
    asked = question(start="1971-01-01T00:00:00Z", end="2026-11-01T00:00:00Z", window="1y", agg=["p50"])
    _, told = await cost(connection, asked, 100_000)
    assert told.beyond == 0
