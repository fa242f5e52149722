"""Where readings were dropped with age: the answer of all the readings there were, or a refusal that says why."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from telemetry.domains import Domain, load_domains
from telemetry.errors import NotKept
from telemetry.query.aggregates import Family
from telemetry.query.question import Asked, Question, understand
from telemetry.query.series import Series
from telemetry.settings import Settings
from telemetry.store import meter_swaps
from telemetry.store.meter_swaps import Swap
from telemetry.store.migrate import migrate
from telemetry.upkeep.retention import NOTICE
from telemetry.upkeep.rounds import run_once
from tests.integration.query import test_steps as steps
from tests.integration.query.asking import DEVICES, ask
from tests.integration.query.histories import expected_steps
from tests.integration.query.rows import City, Row, answered, assert_same, expected

FIRST = datetime(2026, 10, 20, tzinfo=UTC)
KEPT_FROM = datetime(2026, 10, 24, tzinfo=UTC)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
WINDOWS = ("5m", "15m", "1h", "6h", "1d", "1d", "1w")
ZONES = ("Europe/Paris", "Europe/Paris", "UTC", "Asia/Kolkata")


@pytest.fixture(scope="module")
def lighting() -> Domain:
    return load_domains()["lighting"]


async def drop(connection: asyncpg.Connection, before: datetime = KEPT_FROM) -> None:
    await connection.fetch("SELECT telemetry_drop_partitions('lighting', $1)", before)


def made() -> Iterator[Row]:
    """Two devices that always report, one that begins late, one that ends before readings are kept."""
    for number, device in enumerate(DEVICES):
        for step in range(8 * 96):
            at = FIRST + timedelta(minutes=15 * step, seconds=17 * number)
            if (number == 2 and at < KEPT_FROM) or (number == 3 and at > KEPT_FROM - timedelta(hours=30)):
                continue
            yield Row(at, device, {"power_w": float(step % 50), "energy_kwh": float(step), "lamp_on": step % 3 == 0})


def question(domain: Domain, **asked: Any) -> Question:
    asked = {"start": FIRST.isoformat(), "end": NOW.isoformat(), "tz": "UTC", **asked}
    return understand(domain, Asked(**asked), "Europe/Paris", NOW)


@pytest.mark.asyncio
async def test_answers_equal_all_the_readings_there_were_or_are_refused(
    connection: asyncpg.Connection, settings: Settings, lighting: Domain
) -> None:
    chance = random.Random(20261130)
    city = City(connection, "lighting", DEVICES)
    await city.register()
    await city.add(made())
    await run_once(settings)
    await drop(connection)
    outcomes: Counter[tuple[bool, bool]] = Counter()
    for _ in range(150):
        asked = any_rows(chance, lighting)
        is_old = asked.start < KEPT_FROM
        try:
            series = await ask(connection, asked)
        except NotKept:
            outcomes[is_old, True] += 1
            continue
        outcomes[is_old, False] += 1
        assert series.complete_from is None
        assert_same(answered(series), expected(city.rows, asked))
    assert min(outcomes[True, True], outcomes[True, False], outcomes[False, False]) > 15
    assert outcomes[False, True] == 0


def any_rows(chance: random.Random, domain: Domain) -> Question:
    start = FIRST + timedelta(hours=chance.uniform(0, 150))
    end = start + timedelta(hours=chance.choice((2, 30, 70)) * chance.uniform(0.5, 1))
    if chance.random() < 0.7:
        step = chance.choice((timedelta(minutes=15), timedelta(hours=1), timedelta(hours=24)))
        start, end = (at - (at - FIRST) % step for at in (start, end))
    return question(
        domain,
        metric=["power_w"],
        agg=[chance.choice(("avg", "min", "max", "sum", "count", "first", "last"))],
        start=start.isoformat(),
        end=max(end, start + timedelta(minutes=1)).isoformat(),
        window=chance.choice(WINDOWS),
        tz=chance.choice(ZONES),
        by=chance.choice(("none", "device", "zone")),
        zone=chance.choice(((), ("North",))),
    )


@pytest.mark.asyncio
async def test_steps_equal_the_whole_histories_or_are_refused(
    connection: asyncpg.Connection, settings: Settings, lighting: Domain
) -> None:
    """Of counters, cells tell also the readings on either side of a range, over resets and swaps."""
    chance = random.Random(20261201)
    city = City(connection, "lighting", DEVICES)
    await city.register()
    await city.add(steps.made(chance, 0.5, city))
    swaps: dict[tuple[str, datetime], Swap] = {}
    for swap in steps.swapped(chance, city):
        swaps[swap.device_id, swap.time] = swap
        await meter_swaps.declare(connection, swap)
    await run_once(settings)
    await drop(connection)
    outcomes: Counter[tuple[str, bool]] = Counter()
    for _ in range(150):
        asked = rounded(chance, steps.any_question(chance, lighting))
        kind = "counter" if asked.chosen(Family.CHANGE) else "other"
        try:
            series = await ask(connection, asked)
        except NotKept:
            outcomes[kind, True] += 1
            assert asked.start < KEPT_FROM
            continue
        outcomes[kind, False] += asked.start < KEPT_FROM
        if kind == "counter":
            assert series.complete_from is None
        assert_told(series, expected_steps(city.rows, asked, series.plan.edges, list(swaps.values())))
    assert min(outcomes["counter", False], outcomes["counter", True], outcomes["other", True]) > 10
    assert outcomes["other", False] == 0


def rounded(chance: random.Random, asked: Question) -> Question:
    """Most ranges begin and end with a quarter of an hour."""
    if chance.random() < 0.3:
        return asked
    start, end = (at - (at - FIRST) % timedelta(minutes=15) for at in (asked.start, asked.end))
    return Question(**{name: getattr(asked, name) for name in asked.__slots__} | {"start": start, "end": end})


def assert_told(series: Series, wanted: dict[Any, dict[str, Any]]) -> None:
    """What is wanted, from where on the answer is said to be complete."""
    since = series.complete_from or series.plan.edges[0]
    found = {key: steps.without_samples(cells) for key, cells in answered(series).items() if key[0] >= since}
    found = {key: cells for key, cells in found.items() if any(value is not None for value in cells.values())}
    steps.assert_close(found, {key: cells for key, cells in wanted.items() if key[0] >= since})


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("asked", "reason", "ways"),
    [
        ({"agg": ["p95"]}, "p95 look at every reading", ["agg=avg", "agg=max"]),
        ({"agg": ["time_avg"]}, "time_avg look at every reading", ["agg=avg"]),
        ({"agg": ["last"]}, "first and last of several devices", ["by=device"]),
        ({"window": "5m", "end": "2026-10-21T00:00:00Z"}, "quarters of an hour", ["window=15m", "window=1h"]),
        (
            {"start": "2026-10-20T00:07:00Z", "end": "2026-10-21T00:20:00Z"},
            "begin and end with a quarter",
            ["start=2026-10-20T00:15:00+00:00", "end=2026-10-21T00:15:00+00:00"],
        ),
    ],
)
async def test_refusal_says_what_is_gone_and_each_way_out_is_one(
    connection: asyncpg.Connection,
    settings: Settings,
    lighting: Domain,
    asked: dict[str, Any],
    reason: str,
    ways: list[str],
) -> None:
    city = City(connection, "lighting", DEVICES)
    await city.register()
    await city.add(made())
    await run_once(settings)
    await drop(connection)
    base = {"metric": ["power_w"], "end": KEPT_FROM.isoformat(), **asked}
    with pytest.raises(NotKept, match=reason) as refused:
        await ask(connection, question(lighting, **base))
    assert set(ways) < set(refused.value.allowed)
    assert refused.value.allowed[-1] == f"start={KEPT_FROM.isoformat()}"
    assert refused.value.kept_from == KEPT_FROM
    together: dict[str, Any] = dict(way.split("=") for way in ways[::-1])
    together |= {"agg": [together["agg"]]} if "agg" in together else {}
    assert (await ask(connection, question(lighting, **base | together))).points


@pytest.mark.asyncio
async def test_late_quarter_that_is_gone_is_no_smaller_answer(
    connection: asyncpg.Connection, settings: Settings, lighting: Domain
) -> None:
    city = City(connection, "lighting", DEVICES)
    await city.register()
    await city.add(made())
    await run_once(settings)
    await drop(connection)
    await connection.execute("INSERT INTO late_ranges (domain, bucket) VALUES ('lighting', $1)", FIRST)
    with pytest.raises(NotKept, match="roll-ups do not have all of that time"):
        await ask(connection, question(lighting, metric=["power_w"], window="1d"))


@pytest.mark.asyncio
async def test_what_lasted_into_the_range_may_be_missing_and_that_is_told(
    connection: asyncpg.Connection, settings: Settings, lighting: Domain
) -> None:
    city = City(connection, "lighting", DEVICES)
    await city.register()
    await city.add([Row(KEPT_FROM - timedelta(hours=1), DEVICES[0], {"lamp_on": True})])
    await run_once(settings)
    asked = question(lighting, metric=["lamp_on"], start=KEPT_FROM.isoformat(), window="1d", max_gap="3h")
    before = await ask(connection, asked)
    assert before.complete_from is None
    assert [point.values for point in before.points] == [[1.0]]
    await drop(connection)
    after = await ask(connection, asked)
    assert after.complete_from == KEPT_FROM + timedelta(hours=3)
    assert after.points == []
    later = question(lighting, metric=["lamp_on"], start=(KEPT_FROM + timedelta(hours=3)).isoformat(), max_gap="3h")
    assert (await ask(connection, later)).complete_from is None


@pytest.mark.asyncio
async def test_value_from_before_the_range_that_is_gone_is_refused_by_its_reach(
    connection: asyncpg.Connection, settings: Settings, lighting: Domain
) -> None:
    city = City(connection, "lighting", DEVICES)
    await city.register()
    await city.add(made())
    await run_once(settings)
    await drop(connection)
    asked = {"metric": ["power_w"], "start": KEPT_FROM.isoformat(), "fill": "locf", "window": "5m"}
    with pytest.raises(NotKept) as refused:
        await ask(connection, question(lighting, **asked, max_gap="1h"))
    assert refused.value.parameter == "max_gap"
    assert (await ask(connection, question(lighting, **asked))).points
    # Wider buckets reach into the range by their roll-ups.
    assert (await ask(connection, question(lighting, **asked | {"window": "1h"}, max_gap="2h"))).points


@pytest.mark.asyncio
async def test_upkeep_announces_before_it_drops_and_covers_no_day_that_is_gone(
    connection: asyncpg.Connection, settings: Settings, lighting: Domain
) -> None:
    age = datetime.now(UTC) - KEPT_FROM
    short = settings.model_copy(update={"retention": settings.retention.model_copy(update={"readings": age})})
    city = City(connection, "lighting", DEVICES)
    await city.register()
    await city.add(made())
    assert (await run_once(settings)).partitions_dropped == []
    everything = question(lighting, metric=["energy_kwh"], agg=["increase"], window="1d")
    whole = answered(await ask(connection, everything))
    first, second = await run_once(short), await run_once(short)
    assert [first.partitions_dropped, second.partitions_dropped] == [[], []]
    assert await connection.fetchval("SELECT kept_from FROM kept_readings WHERE domain = 'lighting'") == KEPT_FROM
    with pytest.raises(NotKept):
        await ask(connection, question(lighting, metric=["power_w"], agg=["p50"], window="1d"))
    await connection.execute("UPDATE kept_readings SET announced_at = announced_at - $1::interval", NOTICE)
    assert len((await run_once(short)).partitions_dropped) == 4
    assert await connection.fetchval("SELECT min(time) FROM lighting_readings") >= KEPT_FROM
    found = answered(await ask(connection, everything))
    assert {key: cells["increase"] for key, cells in found.items()} == pytest.approx(
        {key: cells["increase"] for key, cells in whole.items()}
    )
    # Where cells are lost, as after a release that knew none, they are not made of readings that are gone.
    await connection.execute("DROP TABLE lighting_counters_15m, lighting_counters_1h, lighting_counters_1d")
    await connection.execute("DELETE FROM counter_coverage WHERE domain = 'lighting'")
    await migrate(settings)
    while (await run_once(settings)).counter_days_covered:
        pass
    assert await connection.fetchval("SELECT covered_from FROM counter_coverage WHERE domain = 'lighting'") == KEPT_FROM
    with pytest.raises(NotKept, match="roll-ups do not have all of that time"):
        await ask(connection, everything)
    kept = question(lighting, metric=["energy_kwh"], start=KEPT_FROM.isoformat(), window="1d")
    assert (await ask(connection, kept)).complete_from == KEPT_FROM + timedelta(days=31)


@pytest.mark.asyncio
async def test_what_an_older_release_dropped_is_found_by_the_migration(
    connection: asyncpg.Connection, settings: Settings, lighting: Domain, engine: str
) -> None:
    city = City(connection, "lighting", DEVICES)
    await city.register()
    await city.add(made())
    await run_once(settings)
    # As that release left it: a day is gone, and days that were gone are taken for covered by cells.
    await drop(connection, KEPT_FROM)
    await connection.execute(
        """
        DROP TABLE kept_readings;
        DROP FUNCTION telemetry_keep_from, telemetry_due_partitions;
        DELETE FROM lighting_counters_15m WHERE bucket < '2026-10-26T00:00:00Z';
        DELETE FROM telemetry_migrations WHERE version = '0041_kept_readings';
        """
    )
    if engine == "timescaledb":
        await connection.execute("DROP FUNCTION telemetry_drop_partitions")
        await connection.execute("SELECT add_retention_policy('lighting_readings', drop_after => interval '5 years')")
    assert await migrate(settings) == ["0041_kept_readings"]
    rows = await connection.fetch("SELECT domain, kept_from FROM kept_readings")
    assert [tuple(row) for row in rows] == [("lighting", KEPT_FROM)]
    asked = {"metric": ["energy_kwh"], "agg": ["increase"], "window": "1d"}
    with pytest.raises(NotKept):
        await ask(connection, question(lighting, **asked))
    assert await connection.fetchval("SELECT covered_from FROM counter_coverage WHERE domain = 'energy'") != KEPT_FROM
    if engine == "timescaledb":
        jobs = "SELECT count(*) FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention'"
        assert await connection.fetchval(jobs) == 0
