"""What ingest must make of messages, told in the plainest way: one reading after the other, in dictionaries."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, TypeAlias

Value: TypeAlias = float | bool | str

ROOT: Final = "city/v1"
MAX_PAYLOAD_BYTES: Final = 1_000
START: Final = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)

_FLAWS: Final[dict[str, tuple[str, dict[str, object]]]] = {
    "schema": ("schema", {"power_w": "1"}),
    "empty": ("schema", {"power_w": None}),
    "range": ("out_of_range", {"power_w": -1.0}),
    "mismatch": ("device_mismatch", {"power_w": 1.0, "device_id": "another"}),
    "future": ("clock_future", {"power_w": 1.0, "time": (START + timedelta(days=2)).isoformat()}),
    "past": ("clock_past", {"power_w": 1.0, "time": (START - timedelta(days=40)).isoformat()}),
}
_WHOLE: Final[dict[str, tuple[str, bytes]]] = {
    "malformed": ("malformed", b'{"power_w": 1'),
    "no JSON": ("malformed", b"\x00\xff"),
    "no elements": ("schema", b"[]"),
    "oversize": ("oversize", b'{"power_w": 1.0}'.ljust(MAX_PAYLOAD_BYTES + 1)),
}
POISON: Final = "poison"
"""A note that the table is made to refuse."""
FLAWS: Final = sorted(_FLAWS)
WHOLE_FLAWS: Final = sorted(_WHOLE)


class Measured(NamedTuple):
    """A reading of a minute; few minutes and values make duplicates, completions and conflicts frequent.

    A note with U+0000 is what JSON allows and no text of PostgreSQL holds; POISON is what the table refuses.
    """

    minute: int
    fields: tuple[tuple[str, Value], ...]

    def raw(self) -> bytes:
        """As JSON."""
        time = (START + timedelta(minutes=self.minute)).isoformat()
        return json.dumps({"time": time, **dict(self.fields)}).encode()


class Flawed(NamedTuple):
    """An element that is no reading, for one reason."""

    flaw: str

    def raw(self) -> bytes:
        """As JSON."""
        return json.dumps({"time": START.isoformat(), **_FLAWS[self.flaw][1]}).encode()


class Content(NamedTuple):
    """What a message holds.

    Attributes:
        device: number of the device; None is a topic that leads nowhere.
        whole: a flaw of the payload as a whole, instead of elements.
        array: whether the elements are in an array; otherwise there is just one.
    """

    device: int | None
    elements: tuple[Measured | Flawed, ...]
    array: bool = False
    whole: str | None = None

    def payload(self) -> bytes:
        """The bytes of the message."""
        if self.whole is not None:
            return _WHOLE[self.whole][1]
        raws = [element.raw() for element in self.elements]
        return b"[" + b", ".join(raws) + b"]" if self.array else raws[0]

    def topic(self, city: str) -> str:
        """The topic; devices of different cities are different devices."""
        return f"{ROOT}/nothing/{city}" if self.device is None else f"{ROOT}/lighting/{city}-{self.device}"

    def size(self) -> int:
        """How many readings the ledger counts."""
        return 1 if self.device is None or self.whole is not None else len(self.elements)


@dataclass
class Expected:
    """What must be in the database after the messages that were given to `settle`, in that order."""

    city: str
    rows: dict[tuple[int, int], dict[str, Value]] = field(default_factory=dict)
    ledger: Counter[str] = field(default_factory=Counter)
    quarantine: Counter[tuple[str, bytes, str, int | None]] = field(default_factory=Counter)

    def settle(self, content: Content) -> None:
        """Takes a message, for the first time or again."""
        for raw, position, outcomes in self._outcomes(content):
            self.ledger.update(["received", *outcomes])
            if outcomes[0] not in ("stored", "duplicate"):
                self.quarantine[content.topic(self.city), raw, outcomes[0], position] += 1

    def _outcomes(self, content: Content) -> Iterator[tuple[bytes, int | None, list[str]]]:
        if content.device is None:
            yield content.payload(), None, ["unknown_topic"]
        elif content.whole is not None:
            yield content.payload(), None, [_WHOLE[content.whole][0]]
        else:
            for position, element in enumerate(content.elements):
                found = (
                    [_FLAWS[element.flaw][0]] if isinstance(element, Flawed) else self._store(content.device, element)
                )
                yield element.raw(), position if content.array else None, found

    def _store(self, device: int, reading: Measured) -> list[str]:
        there, said = self.rows.get((device, reading.minute)), dict(reading.fields)
        if "\0" in str(said.get("note")):
            return ["rejected_by_database"]
        known = there or {}
        if any(known.get(name, value) != value for name, value in said.items()):
            return ["conflict"]
        if said.get("note") == POISON:
            return ["rejected_by_database"]
        if there is not None and said.keys() <= there.keys():
            return ["duplicate"]
        self.rows[device, reading.minute] = known | said
        return ["stored"] if there is None else ["stored", "merged"]
