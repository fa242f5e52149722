"""The rows of a domain as they are written: one tuple for each reading, in the order of the columns.

Times are whole microseconds since 1970 on the way in: a time-zone aware datetime costs more to compare, hash and encode
than everything else about a reading.

A device fills few of its domain's columns, and always the same ones. So a reading travels as an `Entry`, without the
columns that it leaves empty, beside its `Shape`, which knows the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NewType, TypeAlias

from telemetry.domains import Domain

Row = NewType("Row", tuple[Any, ...])
"""(time in µs, received_at in µs, device_key, metrics…, attributes as JSON text or None)."""

TIME: Final = 0
RECEIVED_AT: Final = 1
DEVICE_KEY: Final = 2
FIRST_METRIC: Final = 3

Entry: TypeAlias = "tuple[int, int, int, Shape, Any, *tuple[Any, ...]]"
"""(time in µs, received_at in µs, device_key, shape, source, the values of the shape…); no row, and made without a call
because there is one for each message."""

SHAPE: Final = 3
SOURCE: Final = 4
FIRST_VALUE: Final = 5

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECOND_US = 1_000_000
QUARTER_US = 900 * SECOND_US
HOUR_US = 3_600 * SECOND_US
DAY_US = 86_400 * SECOND_US

_KEY_TYPES = {"time": "timestamptz", "received_at": "timestamptz", "device_key": "integer"}
_MOST_SHAPES = 10_000


@dataclass(frozen=True, eq=False, slots=True)
class Shape:
    """The columns that a reading fills beside time, receipt and device, in the order of the table."""

    layout: Layout
    filled: tuple[str, ...]
    _places: tuple[int, ...]

    def row(self, entry: Entry) -> Row:
        """The whole row of an entry, with None where it says nothing."""
        row = [*entry[:SHAPE], *[None] * (len(self.layout.columns) - FIRST_METRIC)]
        for place, value in zip(self._places, entry[FIRST_VALUE:], strict=True):
            row[place] = value
        return Row(tuple(row))


@dataclass(frozen=True, eq=False)
class Layout:
    """The table of a domain and its columns.

    Attributes:
        types: PostgreSQL type of each column.
    """

    table: str
    types: Mapping[str, str]
    _shapes: dict[tuple[str, ...], Shape] = field(default_factory=dict)

    @classmethod
    def of(cls, domain: Domain) -> Layout:
        """As the migrations make it."""
        metrics = {metric.name: metric.column_type for metric in domain.metrics.values()}
        return cls(f"{domain.name}_readings", {**_KEY_TYPES, **metrics, "attributes": "jsonb"})

    @property
    def columns(self) -> Sequence[str]:
        """Their names in the order of a row."""
        return tuple(self.types)

    def entry(self, row: Row, source: object = None) -> Entry:
        """A row without the columns that it leaves empty."""
        filled = [name for name, value in zip(self.types, row, strict=True) if value is not None]
        values = [value for value in row[FIRST_METRIC:] if value is not None]
        return (*row[:SHAPE], self.shape(tuple(filled[FIRST_METRIC:])), source, *values)

    def shape(self, filled: tuple[str, ...]) -> Shape:
        """The shape of readings that fill these columns, given in the order of the table; the same object each time."""
        shape = self._shapes.get(filled)
        if shape is None:
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            places = {name: place for place, name in enumerate(self.types)}
            shape = self._shapes[filled] = Shape(self, filled, tuple(places[name] for name in filled))
        return shape
