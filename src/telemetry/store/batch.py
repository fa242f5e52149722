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
from telemetry.store.layout import DEVICE_KEY, QUARTER_US, SHAPE, SOURCE, TIME, Entry, Layout, Row
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
        inserts: new rows, some of them made of several readings that complete each other and without a source.
        updates: rows of the database with the values that complete them.
        conflicts: readings that contradict a row, with the contradiction in words.
        duplicates: how many readings say what is known.
        merged: how many readings complete a row, in the batch or in the database.
    """

    inserts: list[Entry] = field(default_factory=list)
    updates: list[Row] = field(default_factory=list)
    conflicts: list[tuple[Source, Row, str]] = field(default_factory=list)
    duplicates: int = 0
    merged: int = 0


class Readings:
    """The readings of one domain in the order of receipt.

    Attributes:
        entries: the readings.
        add: takes one; called for each message, so it is the list's own method.
    """

    __slots__ = ("add", "entries", "layout")

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.entries: list[Entry] = []
        self.add = self.entries.append

    def keys(self) -> Counter[Key]:
        """How many readings there are of each device and time."""
        return Counter((entry[DEVICE_KEY], entry[TIME]) for entry in self.entries)

    @property
    def repeats(self) -> bool:
        """Whether two of the readings are about one device and time."""
        return len({(entry[DEVICE_KEY], entry[TIME]) for entry in self.entries}) < len(self.entries)

    def parts(self, keys: Collection[Key]) -> dict[Key, list[tuple[Row, Source]]]:
        """The readings of these devices and times, each in the order of receipt."""
        found: defaultdict[Key, list[tuple[Row, Source]]] = defaultdict(list)
        for entry in self.entries:
            if (key := (entry[DEVICE_KEY], entry[TIME])) in keys:
                found[key].append((entry[SHAPE].row(entry), entry[SOURCE]))
        return found

    def resolve(self, existing: Mapping[Key, Row], apart: Collection[Key] = ()) -> Resolution:
        """The outcome of every reading, given the rows that the database has already.

        Args:
            apart: devices and times that are settled otherwise.
        """
        several = {key for key, count in self.keys().items() if count > 1 or key in existing}
        passed = several.union(apart)
        alone = [entry for entry in self.entries if (entry[DEVICE_KEY], entry[TIME]) not in passed]
        resolution = Resolution(alone)
        for key, parts in self.parts(several.difference(apart)).items():
            if (there := existing.get(key)) is None:
                row = self._fold(parts[0][0], parts[1:], resolution)
                resolution.inserts.append(self.layout.entry(row))
                continue
            final = self._fold(there, parts, resolution)
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
        refused_of: how many of these are of each domain and device.
        not_kept: further ones by domain, device and reason, beyond what may be kept of a device.
        wrong_clocks: of those refused for their time: the device's key, or its id where that is not known; the time
            and that of receipt in µs since 1970.
        left: messages that another session takes; they are acknowledged and in no account.
        id: tells whether a commit whose answer was lost took place.
        acknowledged: whether its messages are acknowledged already, so that they are nowhere else.
    """

    first: int
    end: int
    received_us: int
    received: Counter[str] = field(default_factory=Counter)
    readings: dict[str, Readings] = field(default_factory=dict)
    refused: list[Quarantined] = field(default_factory=list)
    refused_of: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    not_kept: Counter[tuple[str, str | None, Reason]] = field(default_factory=Counter)
    wrong_clocks: list[tuple[int | str, int, int]] = field(default_factory=list)
    left: int = 0
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    acknowledged: bool = False

    def quarters(self) -> Iterator[tuple[str, int]]:
        """The domains and quarters of an hour (in µs since 1970) that the readings are about."""
        for domain, readings in self.readings.items():
            times = [entry[TIME] for entry in readings.entries]
            first, last = min(times) // QUARTER_US, max(times) // QUARTER_US
            # All in one quarter, as nearly always, is found out at a third of the price.
            for quarter in {time // QUARTER_US for time in times} if first < last else (first,):
                yield domain, quarter * QUARTER_US

    @property
    def repeats(self) -> bool:
        """Whether two of the readings are about one device and time."""
        return any(readings.repeats for readings in self.readings.values())


def quarantined(
    source: Source, received_us: int, domain: str, device_id: str | None, reason: Reason, detail: str
) -> Quarantined:
    """The record of a refused reading."""
    position = source.position if isinstance(source, Part) else None
    return Quarantined(received_us, domain, device_id, reason, detail, source.topic, source.payload, position)
