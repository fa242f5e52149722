"""The same device and time again: a duplicate, a completion of the row, or a conflict.

Identical values are a duplicate. Values for columns that were NULL are merged into the row. A different value for a
column that has one is a conflict: the first value stays, and the message that says otherwise goes to quarantine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from enum import Enum
from typing import Any

from telemetry.store.layout import FIRST_METRIC, Row


class Again(Enum):
    """What a second reading of a device and time is."""

    DUPLICATE = "duplicate"
    MERGED = "merged"
    CONFLICT = "conflict"


def merge(row: Row, other: Row) -> tuple[Again, Row]:
    """What `other` is to `row`, and the row after it; a duplicate and a conflict leave the row as it is."""
    *values, kept = row[FIRST_METRIC:]
    *others, added = other[FIRST_METRIC:]
    merged = [there if value is None else value for value, there in zip(values, others, strict=True)]
    if any(there is not None and there != value for value, there in zip(merged, others, strict=True)):
        return Again.CONFLICT, row
    attributes = _merged_attributes(kept, added)
    if attributes is None and kept is not None:
        return Again.CONFLICT, row
    if merged == values and attributes == kept:
        return Again.DUPLICATE, row
    return Again.MERGED, Row((*row[:FIRST_METRIC], *merged, attributes))


def differences(columns: Sequence[str], row: Row, other: Row) -> str:
    """The columns in which `other` contradicts `row`, with both values, as words."""
    pairs = zip(columns[FIRST_METRIC:-1], row[FIRST_METRIC:-1], other[FIRST_METRIC:-1], strict=True)
    found = [
        f"{column} is {value:g}, not {there:g}" if isinstance(value, float) else f"{column} is {value}, not {there}"
        for column, value, there in pairs
        if value is not None and there is not None and value != there
    ]
    return ", ".join(found) or "an attribute differs"


def _merged_attributes(kept: str | None, added: str | None) -> str | None:
    """Both together; the very text that is kept when nothing is new, None when they contradict each other."""
    if added is None or kept is None:
        return kept if added is None else added
    before, after = _exact(kept), _exact(added)
    if any(key in before and not _same(before[key], value) for key, value in after.items()):
        return None
    return (
        kept if after.keys() <= before.keys() else json.dumps(json.loads(kept) | json.loads(added), ensure_ascii=False)
    )


def _exact(text: str) -> dict[str, Any]:
    """The object with its numbers as they are written: jsonb gives 1e23 back as an integer."""
    parsed: dict[str, Any] = json.loads(text, parse_int=Decimal, parse_float=Decimal)
    return parsed


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON, in which true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)
