"""What the broker says that it dropped: counters that it publishes below `$SYS/` and that begin anew when it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

SYSTEM: Final = "$SYS/"
"""Where brokers speak of themselves. No filter of ours for readings matches it, for wildcards pass over `$`."""

VERSION: Final = "$SYS/broker/version"
"""Where Mosquitto says that it is Mosquitto."""

_AT_MOST: Final = 100
_LARGEST: Final = 2**63


class BrokerDrops:
    """The counters, and what they rose by.

    Args:
        filters: topic filters of the counters; other topics of the broker's are passed over.

    Attributes:
        values: the newest value by topic. A counter counts from its first value on, or from where it stood (`resume`).
        total: messages dropped since.
        version: what the broker calls itself, where `VERSION` was among the filters and it has said so.
    """

    def __init__(self, filters: Sequence[str] = ()) -> None:
        self._filters = [name.split("/") for name in filters]
        self.values: dict[str, int] = {}
        self._first: dict[str, int] = {}
        self.total = 0
        self.version: str | None = None

    def resume(self, former: Mapping[str, int]) -> None:
        """Goes on from where the counters stood in former times, also where that is known late."""
        for topic, value in former.items():
            if topic in self._first:
                self.total += _rise(value, self._first[topic])
            else:
                self.values[topic] = value

    def take(self, topic: str, payload: bytes) -> None:
        """Takes a message of the broker about itself; but for its version, what is no number is passed over."""
        if topic == VERSION:
            self.version = payload.decode(errors="replace")
            return
        value = _number(payload)
        if value is None or not any(_matches(levels, topic.split("/")) for levels in self._filters):
            return
        if topic not in self.values and len(self.values) >= _AT_MOST:
            return
        self._first.setdefault(topic, value)
        self.total += _rise(self.values.get(topic, value), value)
        self.values[topic] = value


def _rise(before: int, value: int) -> int:
    """A counter that fell has begun anew: at least what it shows now was dropped since."""
    return value - before if value >= before else value


def _number(payload: bytes) -> int | None:
    try:
        value = int(payload)
    except ValueError:
        return None
    return value if 0 <= value < _LARGEST else None


def _matches(levels: Sequence[str], topic: Sequence[str]) -> bool:
    """Whether a filter without `#` matches a topic."""
    return len(levels) == len(topic) and all(level in ("+", name) for level, name in zip(levels, topic, strict=True))
