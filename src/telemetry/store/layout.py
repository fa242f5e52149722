"""The rows of a domain as they are written: one tuple for each reading, in the order of the columns.

Times are whole microseconds since 1970 on the way in: a time-zone aware datetime costs more to compare, hash and encode
than everything else about a reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from telemetry.domains import Domain

Row: TypeAlias = tuple[Any, ...]
"""(time in µs, received_at in µs, device_key, metrics…, attributes as JSON text or None)."""

TIME, RECEIVED_AT, DEVICE_KEY, FIRST_METRIC = range(4)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECOND_US = 1_000_000
QUARTER_US = 900 * SECOND_US
HOUR_US = 3_600 * SECOND_US
DAY_US = 86_400 * SECOND_US


@dataclass(frozen=True)
class Layout:
    """The table of a domain and its columns."""

    table: str
    columns: Sequence[str]

    @classmethod
    def of(cls, domain: Domain) -> Layout:
        """As the migrations make it."""
        return cls(f"{domain.name}_readings", ("time", "received_at", "device_key", *domain.metrics, "attributes"))
