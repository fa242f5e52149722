"""Rows in the binary form of COPY: the bytes that the documentation of PostgreSQL asks for."""

from __future__ import annotations

import struct

import pytest

from telemetry.store.binary import encode
from telemetry.store.layout import Layout, Row

LAYOUT = Layout(
    "lighting_readings",
    {
        "time": "timestamptz",
        "received_at": "timestamptz",
        "device_key": "integer",
        "power_w": "double precision",
        "fault": "text",
        "lamp_on": "boolean",
        "energy_kwh": "double precision",
        "attributes": "jsonb",
    },
)
YEAR_2000_US = 946_684_800_000_000


def field(data: bytes | None) -> bytes:
    """A field with its length; -1 for NULL."""
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


def number(value: object) -> bytes | None:
    return None if value is None else struct.pack(">d", value)


def text(value: object, version: bytes = b"") -> bytes | None:
    return None if value is None else version + str(value).encode()


def expected(row: Row) -> bytes:
    """The row as the documentation describes it, field by field."""
    time, received, key, power, fault, lamp, energy, attributes = row
    fields = [
        *(struct.pack(">q", at - YEAR_2000_US) for at in (time, received)),
        struct.pack(">i", key),
        number(power),
        text(fault),
        None if lamp is None else bytes([lamp]),
        number(energy),
        text(attributes, b"\x01"),
    ]
    return struct.pack(">h", len(fields)) + b"".join(map(field, fields))


@pytest.mark.parametrize(
    "values",
    [
        (41.5, None, None, None, None),
        (41.5, "none", True, 1203.4, None),
        (None, "lamp", None, None, None),
        (None, None, False, -0.0, None),
        (None, "köln", False, None, '{"a": "é"}'),
        (None, None, None, None, "{}"),
    ],
)
def test_rows_of_any_shape_are_as_documented(values: tuple[object, ...]) -> None:
    rows = [Row((YEAR_2000_US + at, YEAR_2000_US - at, at, *values)) for at in (1, 2, 3)]
    entries = [LAYOUT.entry(row) for row in rows]
    shape = entries[0][3]
    assert encode(shape, entries) == b"".join(map(expected, rows))
    assert [shape.row(entry) for entry in entries] == rows


def test_same_columns_are_the_same_shape() -> None:
    assert LAYOUT.shape(("power_w",)) is LAYOUT.shape(("power_w",))


def test_value_of_another_type_is_refused() -> None:
    with pytest.raises(struct.error):
        encode(LAYOUT.shape(("power_w",)), [(0, 0, 1, LAYOUT.shape(("power_w",)), None, "41.5")])
