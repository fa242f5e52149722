"""Last values that are written column by column are those that are written object by object."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic_core import to_json

from telemetry.api.latest_rows import LatestRows
from telemetry.domains import load_domains
from telemetry.query.instants import format_instant, instant, microseconds
from telemetry.query.latest import NEVER, Block

NOW = datetime(2026, 10, 25, 1, 30, 0, 213_001, tzinfo=UTC)
PARIS = ZoneInfo("Europe/Paris")
METRICS = {name: load_domains()["lighting"].metrics[name] for name in ("power_w", "energy_kwh", "lamp_on", "fault")}


def ago(**parts: float) -> int:
    return microseconds(NOW - timedelta(**parts))


BLOCK = Block(
    device_keys=[1, 2, 3, 4, 5],
    device_ids=["lamp-1", "lamp:2", "a.b", "lamp-4", "lamp-5"],
    names=["Lamp 1", None, 'say "é\\€",\n\x01\x7f\u2028', "Lamp 1", None],
    zones=[None, "Old Port, east", "Old Port, east", None, ""],
    latitudes=[48.8566, None, -90.0, 1e-7, None],
    longitudes=[2.0, None, 179.999999999, None, None],
    intervals_s=[900.0, None, 0.1, 1e9, None],
    times=[ago(minutes=45), ago(hours=1, microseconds=1), ago(seconds=-5), NEVER, ago(days=7)],
    received=[ago(minutes=44), ago(minutes=59), ago(seconds=0), NEVER, ago(days=6, milliseconds=20)],
    values=[
        [41.5, 1e22, None, None, 5e-324],
        [0.1 + 0.2, None, None, None, 100.0],
        [True, None, False, None, None],
        ["none", None, None, None, "lamp"],
    ],
    earlier={2: [(0, ago(days=2, seconds=0.5), -0.0), (3, ago(days=1), "driver")], 1: [(2, ago(hours=3), True)]},
)


def row(place: int) -> dict[str, Any]:
    """One device's object, made as it is described."""

    def value(us: int, found: Any) -> dict[str, Any]:
        age_s = max(0.0, (NOW - instant(us)).total_seconds())
        return {"value": found, "time": format_instant(instant(us), PARIS), "age_s": age_s}

    def shown(us: int) -> str | None:
        return None if us == NEVER else format_instant(instant(us), PARIS)

    time, names = BLOCK.times[place], list(METRICS)
    values = {name: column[place] for name, column in zip(names, BLOCK.values, strict=True)}
    found = {name: value(time, each) for name, each in values.items() if each is not None}
    found |= {names[position]: value(us, each) for position, us, each in BLOCK.earlier.get(place, ())}
    return {
        "device_id": BLOCK.device_ids[place],
        "name": BLOCK.names[place],
        "zone": BLOCK.zones[place],
        "latitude": BLOCK.latitudes[place],
        "longitude": BLOCK.longitudes[place],
        "interval_s": BLOCK.intervals_s[place],
        "status": "online" if place in (0, 2) else "silent",
        "time": shown(time),
        "received_at": shown(BLOCK.received[place]),
        "age_s": None if time == NEVER else value(time, None)["age_s"],
        "values": found,
    }


def test_columns_and_objects_make_the_same_text() -> None:
    text = LatestRows(list(METRICS.values()), NOW, PARIS).text(BLOCK)
    assert text == to_json([row(place) for place in range(5)]).decode()[1:-1]


@pytest.mark.parametrize("place", range(4))
def test_one_metric_makes_the_same_rows(place: int) -> None:
    name = list(METRICS)[place]
    block = replace(BLOCK, values=[BLOCK.values[place]], earlier={})
    found = json.loads(f"[{LatestRows([METRICS[name]], NOW, PARIS).text(block)}]")
    assert [each["values"] for each in found] == [
        {name: row(number)["values"][name]} if BLOCK.values[place][number] is not None else {} for number in range(5)
    ]
