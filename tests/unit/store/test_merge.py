"""The same device and time again."""

from __future__ import annotations

import json

import pytest

from telemetry.store.batch import Readings, Resolution
from telemetry.store.layout import SHAPE, Layout, Row
from telemetry.store.merge import Again, differences, merge

LAYOUT = Layout(
    "lighting_readings",
    {
        "time": "timestamptz",
        "received_at": "timestamptz",
        "device_key": "integer",
        "power_w": "double precision",
        "lamp_on": "boolean",
        "attributes": "jsonb",
    },
)


def row(power_w: float | None = None, lamp_on: bool | None = None, attributes: str | None = None, at: int = 0) -> Row:
    return Row((at, 5, 1, power_w, lamp_on, attributes))


@pytest.mark.parametrize(
    ("first", "second", "again", "after"),
    [
        (row(1.0), row(1.0), Again.DUPLICATE, row(1.0)),
        (row(1.0, True), row(1.0), Again.DUPLICATE, row(1.0, True)),
        (row(1.0), row(None, True), Again.MERGED, row(1.0, True)),
        (row(1.0), row(2.0), Again.CONFLICT, row(1.0)),
        (row(1.0), row(2.0, True), Again.CONFLICT, row(1.0)),
        (row(None, False), row(0.0, False), Again.MERGED, row(0.0, False)),
        (row(1.0, None, '{"a": 1}'), row(1.0, None, '{"a":1}'), Again.DUPLICATE, row(1.0, None, '{"a": 1}')),
        (row(1.0, None, '{"a": 1}'), row(1.0), Again.DUPLICATE, row(1.0, None, '{"a": 1}')),
        (row(1.0), row(1.0, None, '{"a": 1}'), Again.MERGED, row(1.0, None, '{"a": 1}')),
        (
            row(1.0, None, '{"a": 1e23}'),
            row(1.0, None, f'{{"a": {10**23}}}'),
            Again.DUPLICATE,
            row(1.0, None, '{"a": 1e23}'),
        ),
        (row(1.0, None, '{"a": [1]}'), row(1.0, None, '{"a": [true]}'), Again.CONFLICT, row(1.0, None, '{"a": [1]}')),
        (row(1.0, None, '{"a": 1}'), row(1.0, None, '{"a": 2}'), Again.CONFLICT, row(1.0, None, '{"a": 1}')),
    ],
)
def test_second_reading_is_a_duplicate_a_completion_or_a_conflict(
    first: Row, second: Row, again: Again, after: Row
) -> None:
    assert merge(first, second) == (again, after)


def test_attributes_of_both_are_kept() -> None:
    again, after = merge(row(1.0, None, '{"a": 1}'), row(1.0, None, '{"b": 2}'))
    assert again is Again.MERGED
    assert json.loads(after[-1]) == {"a": 1, "b": 2}


def test_contradiction_is_told_in_words() -> None:
    assert (
        differences(LAYOUT.columns, row(1.0, True), row(2.5, False))
        == "power_w is 1, not 2.5, lamp_on is True, not False"
    )
    assert differences(LAYOUT.columns, row(1.0, None, "{}"), row(1.0)) == "an attribute differs"


class Message:
    """A source that is told apart by its name."""

    def __init__(self, name: str) -> None:
        self.topic = name
        self.payload = name.encode()


def resolve(existing: dict[tuple[int, int], Row], *rows: Row) -> Resolution:
    readings = Readings(LAYOUT)
    for number, each in enumerate(rows):
        readings.add(LAYOUT.entry(each, Message(f"m{number}")))
    return readings.resolve(existing)


def test_every_reading_of_a_batch_has_one_outcome() -> None:
    found = resolve(
        {(1, 7): row(1.0, at=7)},
        row(1.0),  # stored
        row(1.0),  # duplicate in the batch
        row(None, True),  # completes the first
        row(9.0),  # contradicts it
        row(1.0, at=7),  # duplicate of the database
        row(None, False, at=7),  # completes the database's row
        row(None, True, at=7),  # contradicts it by now
    )
    assert [entry[SHAPE].row(entry) for entry in found.inserts] == [row(1.0, True)]
    assert found.updates == [row(1.0, False, at=7)]
    assert (found.merged, found.duplicates, len(found.conflicts)) == (2, 2, 2)
    assert [source.topic for source, *_ in found.conflicts] == ["m3", "m6"]
    stored = len(found.inserts) + found.merged
    assert stored + found.duplicates + len(found.conflicts) == 7
