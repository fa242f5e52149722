"""How long answers take: against the same SQL, against the best SQL by hand, and against the raw rows."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Final

import asyncpg

from telemetry.store.pool import QUESTIONS
from tests.benchmarks.city import City
from tests.benchmarks.figures import Figure, figure
from tests.benchmarks.questions import FORMS, METRIC, Ask, asks, same_sql
from tests.benchmarks.wire import Wire, wire

WARM: Final = 8
"""Turns that do not count: connections are opened, plans are made."""
SAME: Final = ("over the same SQL as it is sent", "over the same SQL with a record for each row")
"""Against which statement of `same_sql`."""
_BY_HAND = f"""
    SELECT bucket, sum({METRIC}_sum) / sum({METRIC}_count) AS avg, sum({METRIC}_count)::bigint AS samples
    FROM energy_1h WHERE bucket >= $1 AND bucket < $2 GROUP BY bucket ORDER BY bucket
"""
_RAW = {
    "timescaledb": "time_bucket('1 hour', time)",
    "postgres": "date_bin('1 hour', time, '2000-01-01 00:00+00')",
}

Action = Callable[[], Awaitable[Any]]


async def in_turns(actions: list[Action], seconds: float) -> list[list[float]]:
    """Milliseconds of each action, one after the other over and over, for so long and at least five times each."""
    found: list[list[float]] = [[] for _ in actions]
    began, turn = time.monotonic(), -WARM
    while turn < 5 or time.monotonic() < began + seconds:
        for number, action in enumerate(actions):
            at = time.perf_counter()
            await action()
            if turn >= 0:
                found[number].append((time.perf_counter() - at) * 1000)
        turn += 1
    return found


def overhead(city: City, seconds: float) -> list[Figure]:
    """The service's latency over that of the same statement."""
    return asyncio.run(_overhead(city, seconds))


async def _overhead(city: City, seconds: float) -> list[Figure]:
    figures = []
    async with wire(city.port) as asked, direct(city, "auto") as auto, direct(city) as custom:
        for ask in asks(city.past):
            statements = await same_sql(custom, ask, city.past)
            sql = [_fetch(each, made.text, *made.values) for made in statements for each in (custom, auto)]
            took = await in_turns([*sql, *(_get(asked, ask, city, form) for form in FORMS)], seconds)
            least = [min(map(median, took[:2])), min(map(median, took[2:4]))]
            rows = len(await custom.fetch(statements[1].text, *statements[1].values))
            for form, times in zip(FORMS, took[4:], strict=True):
                for name, sql_took in zip(SAME, least, strict=True):
                    note = f"{rows:,} rows; {median(times):.1f} ms over {sql_took:.1f} ms; {len(times)} times"
                    ratio, scenario = [median(times) / sql_took], f"{name}, {city.engine}"
                    figures.append(
                        figure(scenario, f"{ask.name}, {form}", ratio, "×", form=".2f", most=1.25, note=note)
                    )
    return sorted(figures, key=lambda each: each.scenario, reverse=True)


def roll_ups(city: City, seconds: float) -> list[Figure]:
    """Hourly averages of all meters: the service, the best SQL on the same roll-up, and raw rows; same answers."""
    return asyncio.run(_roll_ups(city, seconds))


async def _roll_ups(city: City, seconds: float) -> list[Figure]:
    past, name = city.past, f"hourly average of all meters, {city.engine}"
    ask = Ask("", past.days * 24)
    raw = f"""
        SELECT {_RAW[city.engine]} AS bucket, avg({METRIC}) AS avg, count({METRIC}) AS samples
        FROM energy_readings WHERE time >= $1 AND time < $2 GROUP BY 1 ORDER BY 1
    """
    async with wire(city.port) as asked, direct(city) as database:
        actions = [_get(asked, ask, city, "json"), _fetch(database, _BY_HAND, past.start, past.end)]
        ours, by_hand = await in_turns(actions, seconds)
        # Before the service takes the connection for left.
        answer = json.loads(await actions[0]())["data"]
        (from_raw,) = await in_turns([_fetch(database, raw, past.start, past.end)], 0)
        different = differences(answer, await database.fetch(raw, past.start, past.end))
    shown = f"{median(ours):.1f} ms over {{:.1f}} ms; {past.rows:,} raw rows"
    least = 50 if city.engine == "postgres" else 5
    return [
        figure(
            name, "over the best SQL on the same roll-up", [median(ours) / median(by_hand)], "×", form=".2f", most=2,
            note=shown.format(median(by_hand)),
        ),
        figure(
            name, "times faster than raw rows", [median(from_raw) / median(ours)], "×", least=least,
            note=f"{median(from_raw):,.0f} ms from raw rows, by hand",
        ),
        figure(name, "answers that differ from those of raw rows", [different], form=",.0f", most=0),
    ]  # fmt: skip


def differences(answer: list[dict[str, Any]], raw: list[asyncpg.Record]) -> int:
    """Buckets that are not in both, or whose number of samples or average differs; averages by more than 1e-12."""
    ours = {datetime.fromisoformat(row["bucket"]): (row["samples"], row["avg"]) for row in answer}
    theirs = {row["bucket"]: (row["samples"], row["avg"]) for row in raw}
    return sum(
        bucket not in ours
        or bucket not in theirs
        or ours[bucket][0] != theirs[bucket][0]
        or not math.isclose(ours[bucket][1], theirs[bucket][1], rel_tol=1e-12)
        for bucket in ours.keys() | theirs.keys()
    )


def direct(city: City, plans: str = "force_custom_plan") -> Any:
    """A connection as those of the service, or with `plan_cache_mode` as it is by default."""
    return city.connection(QUESTIONS | {"plan_cache_mode": plans})


def _fetch(database: asyncpg.Connection, text: str, *values: Any) -> Action:
    return lambda: database.fetch(text, *values, timeout=timedelta(minutes=5).total_seconds())


def _get(asked: Wire, ask: Ask, city: City, form: str) -> Action:
    path = ask.path(city.past, form)
    return lambda: asked.get(path)
