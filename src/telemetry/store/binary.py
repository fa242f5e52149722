"""Rows as PostgreSQL's binary COPY reads them, packed column by column instead of value by value.

The rows of one shape differ only in their values: number of fields, lengths and empty fields are the same in each. So a
row is a few segments, each packed by one `struct` for all rows at once: bytes and numbers up to a text, then the text,
and so on.
Source: PostgreSQL documentation, COPY, "Binary Format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, repeat
from typing import Any, Final

from telemetry.store.layout import FIRST_VALUE, SECOND_US, SHAPE, Entry, Shape

HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER: Final = b"\xff\xff"

_EMPTY: Final = b"\xff\xff\xff\xff"
POSTGRES_EPOCH_US: Final = 946_684_800 * SECOND_US
_FIXED: Final = {"timestamptz": "q", "integer": "i", "double precision": "d", "boolean": "?"}
_VERSION: Final = {"text": b"", "jsonb": b"\x01"}
_length = struct.Struct(">i").pack


def encode(shape: Shape, entries: Sequence[Entry]) -> bytes:
    """The rows of entries that have this shape.

    Raises:
        struct.error, UnicodeError: a value is not of its column's type.
    """
    columns = list(zip(*entries, strict=True))
    values = [_since_2000(columns[0]), _since_2000(columns[1]), *columns[2:SHAPE], *columns[FIRST_VALUE:]]
    packed = [segment.pack(values, len(entries)) for segment in _segments(shape)]
    return b"".join(packed[0] if len(packed) == 1 else chain.from_iterable(zip(*packed, strict=True)))


def _since_2000(times: Iterable[int]) -> list[int]:
    return [time - POSTGRES_EPOCH_US for time in times]


class _Numbers:
    """Numbers, and between them the bytes that are the same in each row."""

    def __init__(self) -> None:
        self._parts: list[bytes | int] = []
        """Constant bytes, or the place of a value."""
        self._format = ">"

    def constant(self, data: bytes) -> None:
        """Adds bytes that are the same in each row."""
        self._format += f"{len(data)}s"
        self._parts.append(data)

    def value(self, code: str, place: int) -> None:
        """Adds a value: its `struct` code and the place of its column among the values."""
        self._format += code
        self._parts.append(place)

    def pack(self, values: Sequence[Sequence[Any]], rows: int) -> Iterator[bytes]:
        """The segment of each row."""
        columns = [repeat(part, rows) if isinstance(part, bytes) else values[part] for part in self._parts]
        return map(struct.Struct(self._format).pack, *columns)


class _Text:
    """A text with its length before it."""

    def __init__(self, version: bytes, place: int) -> None:
        self._version = version
        self._place = place

    def pack(self, values: Sequence[Sequence[Any]], rows: int) -> Iterator[bytes]:
        """The segment of each row."""
        for value in values[self._place]:
            data = self._version + value.encode()
            yield _length(len(data)) + data


@lru_cache(10_000)
def _segments(shape: Shape) -> list[_Numbers | _Text]:
    types = shape.layout.types
    places = {name: place for place, name in enumerate([*list(types)[:SHAPE], *shape.filled])}
    numbers, same = _Numbers(), struct.pack(">h", len(types))
    segments: list[_Numbers | _Text] = [numbers]
    for name, type_ in types.items():
        if name not in places:
            same += _EMPTY
        elif code := _FIXED.get(type_):
            numbers.constant(same + _length(struct.calcsize(f">{code}")))
            numbers.value(code, places[name])
            same = b""
        else:
            numbers.constant(same)
            numbers, same = _Numbers(), b""
            segments += [_Text(_VERSION[type_], places[name]), numbers]
    numbers.constant(same)
    return segments
