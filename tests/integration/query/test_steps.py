"""Counters and values weighted by time: exact at every edge, over resets, and from before the range on."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import asyncpg
import pytest

from telemetry.domains import Domain, counter, load_domains
from telemetry.domains.lighting import LightingReading
from telemetry.query.aggregates import Family
from telemetry.query.neighbours import REACH
from telemetry.query.question import Asked, Question, understand
from telemetry.settings import Settings
from telemetry.store import meter_swaps
from telemetry.store.devices import Device
from telemetry.store.meter_swaps import Swap
from telemetry.upkeep.rounds import run_once
from tests.integration.query.asking import DEVICES, ask
from tests.integration.query.histories import expected_steps
from tests.integration.query.rows import City, Row, answered

NOON = datetime(2026, 10, 24, 12, tzinfo=UTC)
"""Twelve hours before the clocks of Paris go back."""
NOW = datetime(2026, 11, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
LAMP = DEVICES[0]


@pytest.fixture(scope="module")
def lighting() -> Domain:
    return load_domains()["lighting"]


class StrictReading(LightingReading):
    """Lamps whose counters never fall by themselves."""

    energy_kwh: float | None = counter("kWh", "Active energy", le=1e9, glitch=0)


STRICT = Domain("lighting", "Street lighting", StrictReading)


def question(domain: Domain, **asked: Any) -> Question:
    now = asked.pop("now", NOW)
    asked = {"start": NOON.isoformat(), "end": (NOON + timedelta(days=1)).isoformat(), "tz": "UTC", **asked}
    return understand(domain, Asked(**asked), "Europe/Paris", now)


async def city_of(connection: asyncpg.Connection, metric: str, values: Sequence[Any]) -> City:
    """One lamp with a value every quarter of an hour from noon on."""
    city = City(connection, "lighting", DEVICES)
    await city.register()
    await city.add(Row(NOON + QUARTER * number, LAMP, {metric: value}) for number, value in enumerate(values))
    return city


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("values", "reset", "increase", "quality"),
    [
        ((10, 20, 15, 40), "zero", 50, "adjusted"),
        ((10, 20, 15, 40), "first", 35, "adjusted"),
        ((3598.3, 3598.2, 3598.4), "zero", 0.1, "adjusted"),
        ((4843.8, 12.5, 13.0), "first", 0.5, "adjusted"),
        ((4843.8, 12.5, 13.0), "zero", 13.0, "adjusted"),
        ((2**32 - 6, 4), "zero", 10, "adjusted"),
        ((2**32 / 1000 - 6, 4), "zero", 10, "adjusted"),
        ((99_990, 5, 6), "zero", 16, "adjusted"),
        ((99_990, 5, 6), "first", 16, "adjusted"),
        ((995, 5), "zero", 5, "adjusted"),
        ((10, 10, 10), "zero", 0, "measured"),
        ((10, 11, 12.5), "zero", 2.5, "measured"),
    ],
)
async def test_increase_over_resets_roll_overs_and_glitches(
    connection: asyncpg.Connection,
    lighting: Domain,
    values: Sequence[float],
    reset: str,
    increase: float,
    quality: str,
) -> None:
    await city_of(connection, "energy_kwh", values)
    series = await ask(connection, question(lighting, metric=["energy_kwh"], window="1w", reset=reset))
    (point,) = series.points
    assert point.values == [pytest.approx(increase)]
    assert (point.samples, point.quality) == (len(values), quality)


@pytest.mark.asyncio
async def test_small_fall_is_a_glitch_as_far_as_the_metric_tolerates_it(
    connection: asyncpg.Connection, lighting: Domain
) -> None:
    await city_of(connection, "energy_kwh", [10, 9.9, 12])
    for domain, increase in ((lighting, 2.0), (STRICT, 12.0)):
        (point,) = (await ask(connection, question(domain, metric=["energy_kwh"], window="1w"))).points
        assert (point.values, point.quality) == ([pytest.approx(increase)], "adjusted")


@pytest.mark.asyncio
async def test_increase_is_spread_over_the_buckets_in_which_it_happened(
    connection: asyncpg.Connection, lighting: Domain
) -> None:
    city = City(connection, "lighting", DEVICES)
    await city.register()
    minutes = {-30: 0.0, 30: 6.0, 60: 9.0, 210: 24.0, 300: 24.0}
    await city.add(Row(NOON + timedelta(minutes=at), LAMP, {"energy_kwh": value}) for at, value in minutes.items())
    series = await ask(connection, question(lighting, metric=["energy_kwh"], agg=["increase", "rate"], window="1h"))
    found = [(point.bucket, list(point.values), point.samples, point.quality) for point in series.points]
    assert found == [
        # Half of the step over noon, and a whole one up to the edge.
        (1, [6.0, 6.0], 1, "interpolated"),
        (2, [6.0, 6.0], 1, "interpolated"),
        (3, [6.0, 6.0], 0, "interpolated"),
        (4, [3.0, 3.0], 1, "interpolated"),
        # Nothing was consumed; the counter stood still over the edge.
        (5, [0.0, 0.0], 0, "measured"),
        (6, [None, None], 1, None),
    ]


@pytest.mark.asyncio
async def test_state_is_carried_in_and_lasts_until_the_next_or_until_now(
    connection: asyncpg.Connection, lighting: Domain
) -> None:
    city = City(connection, "lighting", DEVICES)
    await city.register()
    await city.add(
        [
            Row(NOON - timedelta(days=20), LAMP, {"lamp_on": True, "fault": "none"}),
            Row(NOON + timedelta(minutes=30), LAMP, {"fault": "lamp"}),
            Row(NOON + timedelta(minutes=90), LAMP, {"lamp_on": False}),
        ]
    )
    now = NOON + timedelta(minutes=150)
    asked = question(
        lighting, metric=["lamp_on", "fault"], agg=["share", "duration"], window="1h", by="device", now=now
    )
    series = await ask(connection, asked)
    assert {(point.bucket, point.metric): point.values for point in series.points} == {
        (1, 0): [1.0, 3600.0],
        (2, 0): [0.5, 1800.0],
        (3, 0): [0.0, 0.0],
        (1, 1): [{"none": 0.5, "lamp": 0.5}, {"none": 1800.0, "lamp": 1800.0}],
        (2, 1): [{"lamp": 1.0}, {"lamp": 3600.0}],
        (3, 1): [{"lamp": 1.0}, {"lamp": 1800.0}],
    }


@pytest.mark.asyncio
async def test_value_reaches_no_further_than_asked(connection: asyncpg.Connection, lighting: Domain) -> None:
    await city_of(connection, "lamp_on", [True, False])
    asked = {"metric": ["lamp_on"], "agg": ["duration"], "window": "1d"}
    limited = await ask(connection, question(lighting, **asked, max_gap="5m"))
    assert [point.values for point in limited.points] == [[300.0]]


@pytest.mark.asyncio
async def test_power_becomes_energy(connection: asyncpg.Connection, lighting: Domain) -> None:
    await city_of(connection, "power_w", [0, 100, 100, 100, 0])
    asked = question(lighting, metric=["power_w"], agg=["integral", "time_avg", "avg"], window="1h")
    first, second = (await ask(connection, asked)).points
    assert first.values == [75.0, 75.0, 75.0]
    assert second.values == [None, None, 0.0]


@pytest.mark.asyncio
@pytest.mark.parametrize(("combine", "wanted"), [(None, 25.0), ("sum", 50.0), ("mean", 25.0)])
async def test_devices_are_combined_as_asked(
    connection: asyncpg.Connection, lighting: Domain, combine: str | None, wanted: float
) -> None:
    city = await city_of(connection, "power_w", [10, 10, 10, 10, 10])
    await city.add(Row(NOON + QUARTER * number, DEVICES[1], {"power_w": 40.0}) for number in range(5))
    for aggregate in ("time_avg", "avg"):
        asked = question(lighting, metric=["power_w"], agg=[aggregate], window="1d", combine=combine, by="zone")
        (point,) = (await ask(connection, asked)).points
        assert (point.group, list(point.values)) == ("North", [wanted])


@pytest.mark.asyncio
async def test_device_that_reports_more_often_weighs_more_among_rows_only(
    connection: asyncpg.Connection, lighting: Domain
) -> None:
    city = await city_of(connection, "power_w", [10, 10, 10])
    await city.add([Row(NOON, DEVICES[1], {"power_w": 40.0})])
    found = {}
    for combine in ("rows", "mean", "sum"):
        asked = question(lighting, metric=["power_w"], agg=["avg"], window="1d", combine=combine)
        (point,) = (await ask(connection, asked)).points
        found[combine] = point.values[0]
        assert point.samples == 4
    assert found == {"rows": 17.5, "mean": 25.0, "sum": 50.0}


@pytest.mark.asyncio
async def test_answers_equal_the_whole_histories(
    connection: asyncpg.Connection, settings: Settings, lighting: Domain
) -> None:
    chance = random.Random(20261125)
    city = City(connection, "lighting", DEVICES)
    await city.register()
    swaps: dict[tuple[str, datetime], Swap] = {}
    read: Counter[str] = Counter()
    for share in (0.5, 0.02):
        await city.add(made(chance, share, city))
        for swap in swapped(chance, city):
            swaps[swap.device_id, swap.time] = swap
            await meter_swaps.declare(connection, swap)
        for refreshed in (False, True):
            if refreshed:
                await run_once(settings)
            for _ in range(35):
                asked = any_question(chance, chance.choice((lighting, STRICT)))
                series = await ask(connection, asked)
                found = {key: without_samples(cells) for key, cells in answered(series).items()}
                found = {key: cells for key, cells in found.items() if any(v is not None for v in cells.values())}
                assert_close(found, expected_steps(city.rows, asked, series.plan.edges, list(swaps.values())))
                if asked.chosen(Family.CHANGE):
                    read.update({segment.relation for segment in series.plan.changes})
    assert set(read) == {"readings", "counters_15m", "counters_1h", "counters_1d"}


@pytest.mark.asyncio
async def test_buckets_add_up_to_the_range(connection: asyncpg.Connection, lighting: Domain) -> None:
    chance = random.Random(7)
    city = City(connection, "lighting", DEVICES)
    await city.register()
    await city.add(made(chance, 0.3, city))
    cuts = sorted(NOON + timedelta(seconds=chance.randint(0, 200_000)) for _ in range(12))
    asked = {"metric": ["energy_kwh"], "window": "1y"}
    whole = await ask(connection, question(lighting, **asked, start=cuts[0].isoformat(), end=cuts[-1].isoformat()))
    parts = [
        point.values[0]
        for start, end in pairwise(cuts)
        for point in (
            await ask(connection, question(lighting, **asked, start=start.isoformat(), end=end.isoformat()))
        ).points
    ]
    assert sum(parts) == pytest.approx(whole.points[0].values[0], rel=1e-9)


@pytest.mark.asyncio
@pytest.mark.parametrize("refreshed", [False, True])
async def test_device_that_is_at_home_elsewhere_steps_into_the_range_and_out_of_it(
    connection: asyncpg.Connection, settings: Settings, lighting: Domain, refreshed: bool
) -> None:
    """Whether the roll-ups know that it reports here or not."""
    guest = Device("guest", "energy")
    city = City(connection, "lighting", [*DEVICES, guest, Device("meter", "energy")])
    await city.register()
    await city.add(Row(NOON + timedelta(hours=at), guest, {"energy_kwh": 100.0 + at}) for at in (-40, 40))
    if refreshed:
        await run_once(settings)
    (point,) = (await ask(connection, question(lighting, metric=["energy_kwh"], window="1w"))).points
    assert point.values == [pytest.approx(24.0)]


def made(chance: random.Random, share: float, city: City) -> Iterator[Row]:
    """Counters that rise, fall, jump and roll over; gauges; states; some devices rarely, with long silences."""
    there = {(row.time, row.device.device_id) for row in city.rows}
    for number, device in enumerate(city.devices):
        index, on = 90_000.0 + 3_000 * number, True
        for minute in range(-25 * 1440, 3 * 1440, 7 if number < 2 else 600):
            at = NOON + timedelta(minutes=minute)
            index = chance.choice((index, index + chance.uniform(0, 40), index + 1))
            if chance.random() < 0.01:
                index = chance.choice((0.0, index * 0.97, 12.5))
            index %= 100_000
            on = on != (chance.random() < 0.1)
            is_silent = minute < -1440 and chance.random() > 0.02
            if not is_silent and chance.random() < share and (at, device.device_id) not in there:
                values: dict[str, Any] = {"energy_kwh": index, "power_w": chance.uniform(0, 100), "lamp_on": on}
                values["fault"] = chance.choice(("none", "lamp", "supply"))
                yield Row(at, device, {name: value for name, value in values.items() if chance.random() < 0.8})


def swapped(chance: random.Random, city: City) -> Iterator[Swap]:
    """Meters that were replaced: at readings, between them, and where there are none for long."""
    for device in city.devices:
        times = [row.time for row in city.rows if row.device is device and "energy_kwh" in row.values]
        for at in [*chance.sample(times, 3), *(NOON + timedelta(hours=chance.uniform(-30, 70)) for _ in range(3))]:
            start, final = chance.choice((0.0, 50.0, 200_000.0)), chance.choice((None, 91_000.0, 12.5))
            yield Swap(device.device_id, city.domain, "energy_kwh", at, start, final)


def any_question(chance: random.Random, domain: Domain) -> Question:
    metric, aggregates = chance.choice(
        (
            *[("energy_kwh", ("increase", "rate"))] * 3,
            ("power_w", ("time_avg", "integral")),
            ("lamp_on", ("share", "duration", "time_avg")),
            ("fault", ("share", "duration")),
        )
    )
    start = NOON + timedelta(hours=chance.uniform(-120, 60))
    hours = chance.choice((2, 30, 150)) * chance.uniform(0.5, 1)
    return question(
        domain,
        metric=[metric],
        agg=list(aggregates),
        start=start.isoformat(),
        end=(start + timedelta(hours=hours)).isoformat(),
        window=chance.choice(("5m", "15m") if hours < 3 else ("1h", "6h", "1d", "1d", "1w")),
        tz=chance.choice(("Europe/Paris", "Europe/Paris", "Asia/Kolkata")),
        by=chance.choice(("none", "device", "zone")),
        combine=chance.choice((None, "sum", "mean")),
        max_gap=chance.choice((None, None, "3h")),
        reset=chance.choice(("zero", "first")),
        zone=chance.choice(((), ("North",))),
        now=NOON + timedelta(hours=chance.choice((30, 200))),
    )


def without_samples(cells: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in cells.items() if name != "samples"}


def assert_close(found: Mapping[Any, Mapping[str, Any]], wanted: Mapping[Any, Mapping[str, Any]]) -> None:
    assert sorted(found, key=str) == sorted(wanted, key=str)
    for key, cells in wanted.items():
        for name, value in cells.items():
            assert found[key][name] == pytest.approx(value, rel=1e-9, abs=1e-6), (key, name)


@pytest.mark.asyncio
@pytest.mark.parametrize("rolled_up", [False, True])
@pytest.mark.parametrize("swapped", [False, True])
async def test_counter_that_was_silent_for_months_gains_the_same_in_every_range(
    connection: asyncpg.Connection, settings: Settings, lighting: Domain, rolled_up: bool, swapped: bool
) -> None:
    """A month is billed by itself; what it has must not depend on whether its neighbours are asked for as well."""
    read = {(1, 1): 0.0, (4, 11): 1000.0, (5, 1): 1200.0}
    city = City(connection, "lighting", DEVICES)
    await city.register()
    await city.add(
        Row(datetime(2026, month, day, tzinfo=UTC), device, {"energy_kwh": value})
        for (month, day), value in read.items()
        for device in (LAMP, DEVICES[1])
    )
    if swapped:
        swap = Swap(LAMP.device_id, "lighting", "energy_kwh", datetime(2026, 2, 10, tzinfo=UTC), 900.0, 410.0)
        assert await meter_swaps.declare(connection, swap)
    if rolled_up:
        await run_once(settings)
    firsts = [datetime(2026, month, 1, tzinfo=UTC) for month in range(1, 6)]
    asked = {"metric": ["energy_kwh"], "window": "1mo", "by": "device", "device": [LAMP.device_id]}
    whole = question(lighting, start=firsts[0].isoformat(), end=firsts[-1].isoformat(), **asked)
    points = (await ask(connection, whole)).points
    of_months = [point.values[0] for point in points]
    assert of_months == pytest.approx(gained_by_month(swapped))
    assert {point.quality for point in points} == {"adjusted" if swapped else "interpolated"}
    for (start, end), wanted, quality in zip(
        pairwise(firsts), of_months, [each.quality for each in points], strict=True
    ):
        month = question(lighting, start=start.isoformat(), end=end.isoformat(), **asked)
        (point,) = (await ask(connection, month)).points
        assert (point.values, point.quality) == ([pytest.approx(wanted)], quality)


def gained_by_month(swapped: bool) -> list[float]:
    """January to April, by hand: 100 days of silence, with a swap on the 40th or none, and 20 days up to May."""
    if not swapped:
        return [310.0, 280.0, 310.0, 300.0]
    old, new = 410.0 / 40, 100.0 / 60
    return [31 * old, 9 * old + 19 * new, 31 * new, 10 * new + 200.0]


@pytest.mark.asyncio
@pytest.mark.parametrize("rolled_up", [False, True])
async def test_gauge_that_may_last_longer_than_a_month_does_so_in_every_range(
    connection: asyncpg.Connection, settings: Settings, lighting: Domain, rolled_up: bool
) -> None:
    city = City(connection, "lighting", DEVICES)
    await city.register()
    await city.add(Row(NOON + timedelta(days=day), LAMP, {"power_w": float(day)}) for day in (-45, -5, 35))
    if rolled_up:
        await run_once(settings)
    asked = {"metric": ["power_w"], "agg": ["time_avg"], "window": "1w", "now": NOON + timedelta(days=40)}
    (point,) = (await ask(connection, question(lighting, **asked, max_gap="40d"))).points
    assert point.values == [pytest.approx(0.5)]
    assert not (await ask(connection, question(lighting, **asked))).points


def test_reach_is_the_one_that_is_documented() -> None:
    assert timedelta(days=31) == REACH
