"""Looking for what is nearest: from one end of a range on, in stretches of time that grow.

Each day of raw readings is a part of its own, without an index by time alone. A look at the whole range reads all of
its days, and where one day has enough, it was enough to read that one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from telemetry.spans import Span, floor

_DAY = timedelta(days=1)
"""Of UTC: parts of raw readings are such days."""
_LEAST = timedelta(microseconds=1)
_GROWTH = 4


def widening(span: Span, *, backwards: bool = False) -> Iterator[Span]:
    """The span cut into stretches, in order from its start, or from its end if `backwards`.

    The first is of one day, which it may not fill; each further one is several times as long as the one before.
    """
    start, end = span
    width = _DAY
    while start < end:
        if backwards:
            edge = max(start, floor(end - _LEAST, _DAY) + _DAY - width)
            yield edge, end
            end = edge
        else:
            edge = min(end, floor(start, _DAY) + width)
            yield start, edge
            start = edge
        width *= _GROWTH
