"""What is settled in one transaction: the readings of every domain, and what is refused.

Every reading that was received gets exactly one outcome. The outcomes are worked out here, from the readings in their
order of receipt and the rows that the database has already, so that every way of writing counts alike.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from telemetry.errors import Reason
from telemetry.store.layout import DAY_US, DEVICE_KEY, QUARTER_US, TIME, Layout, Row
from telemetry.store.merge import Again, differences, merge

Key: TypeAlias = tuple[int, int]
"""(device_key, time in µs): what is stored once."""

RECEIVED, STORED, MERGED, DUPLICATE = "received", "stored", "merged", "duplicate"
"""Outcomes in the ledger, beside the quarantine reasons. `merged` is the part of `stored` that completed a row."""


class Source(Protocol):
    """The message that a reading came in."""

    @property
    def topic(self) -> str:
        """As published."""

    @property
    def payload(self) -> bytes:
        """The raw bytes of the reading."""


class Part(NamedTuple):
    """A source that is one element of an array."""

    topic: str
    payload: bytes
    position: int


class Quarantined(NamedTuple):
    """A refused reading, or a message that is none."""

    received_us: int
    domain: str
    device_id: str | None
    reason: Reason
    detail: str
    topic: str
    payload: bytes
    position: int | None


@dataclass(slots=True)
class Resolution:
    """What becomes of the readings of one domain.

    Attributes:
        inserts: new rows, some of them made of several readings that complete each other.
        updates: rows of the database with the values that complete them.
        conflicts: readings that contradict a row, with the contradiction in words.
        duplicates: how many readings say what is known.
        merged: how many readings complete a row, in the batch or in the database.
    """

    inserts: list[Row] = field(default_factory=list)
    updates: list[Row] = field(default_factory=list)
    conflicts: list[tuple[Source, Row, str]] = field(default_factory=list)
    duplicates: int = 0
    merged: int = 0


class Readings:
    """The readings of one domain in the order of receipt."""

    __slots__ = ("_again", "_index", "layout", "rows", "sources")

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.rows: list[Row] = []
        self.sources: list[Source] = []
        self._index: dict[Key, int] = {}
        self._again: dict[int, list[tuple[Row, Source]]] = defaultdict(list)

    def add(self, row: Row, source: Source) -> None:
        """Takes a reading; one whose device and time were there before waits for `resolve`."""
        count = len(self.rows)
        index = self._index.setdefault((row[DEVICE_KEY], row[TIME]), count)
        if index == count:
            self.rows.append(row)
            self.sources.append(source)
        else:
            self._again[index].append((row, source))

    @property
    def keys(self) -> Sequence[Key]:
        """What the readings are about, each once."""
        return list(self._index)

    def parts(self, key: Key) -> list[tuple[Row, Source]]:
        """The readings of that device and time in the order of receipt."""
        index = self._index[key]
        return [(self.rows[index], self.sources[index]), *self._again.get(index, [])]

    def resolve(self, existing: Mapping[Key, Row], apart: Collection[Key] = ()) -> Resolution:
        """The outcome of every reading, given the rows that the database has already.

        Args:
            apart: devices and times that are settled otherwise.
        """
        if not self._again and not existing and not apart:
            return Resolution(self.rows)
        resolution = Resolution()
        for index, (key, row, source) in enumerate(zip(self._index, self.rows, self.sources, strict=True)):
            if key in apart:
                continue
            there, again = existing.get(key), self._again.get(index, [])
            if there is None:
                resolution.inserts.append(self._fold(row, again, resolution))
                continue
            final = self._fold(there, [(row, source), *again], resolution)
            if final is not there:
                resolution.updates.append(final)
        return resolution

    def _fold(self, row: Row, again: Sequence[tuple[Row, Source]], resolution: Resolution) -> Row:
        """The row after all that came again, the very same where nothing completed it; notes the outcomes."""
        for other, source in again:
            outcome, merged = merge(row, other)
            if outcome is Again.MERGED:
                resolution.merged += 1
            elif outcome is Again.DUPLICATE:
                resolution.duplicates += 1
            else:
                resolution.conflicts.append((source, other, differences(self.layout.columns, row, other)))
            row = merged
        return row


@dataclass(slots=True)
class Batch:
    """Messages that are settled together; all were received within the same hour.

    Attributes:
        first, end: their numbers, half-open.
        received_us: when the first of them was received.
        received: readings by domain, `unknown` where the topic names none.
        readings: by domain, those that can be stored.
        refused: those that cannot.
        left: messages that another session takes; they are acknowledged and in no account.
        id: tells whether a commit whose answer was lost took place.
    """

    first: int
    end: int
    received_us: int
    received: Counter[str] = field(default_factory=Counter)
    readings: dict[str, Readings] = field(default_factory=dict)
    refused: list[Quarantined] = field(default_factory=list)
    left: int = 0
    id: uuid.UUID = field(default_factory=uuid.uuid4)

    def days(self) -> Iterator[tuple[str, int]]:
        """The domains and UTC days (numbered from 1970) that the readings are about."""
        for domain, readings in self.readings.items():
            for day in {row[TIME] // DAY_US for row in readings.rows}:
                yield domain, day

    def quarters(self) -> Iterator[tuple[str, int]]:
        """The domains and quarters of an hour (in µs since 1970) that the readings are about."""
        for domain, readings in self.readings.items():
            for quarter in {row[TIME] // QUARTER_US for row in readings.rows}:
                yield domain, quarter * QUARTER_US


def quarantined(
    source: Source, received_us: int, domain: str, device_id: str | None, reason: Reason, detail: str
) -> Quarantined:
    """The record of a refused reading."""
    position = source.position if isinstance(source, Part) else None
    return Quarantined(received_us, domain, device_id, reason, detail, source.topic, source.payload, position)
