"""Half-open spans of time, disjoint and in rising order, as lists; and the quarters of an hour below them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

QUARTER = timedelta(minutes=15)
"""The narrowest cell of a roll-up: what is late, closed or changed is so by quarters of an hour."""

LONGEST_DAY = timedelta(hours=26)
"""From the label of a day in a daily roll-up to the end of its readings, at the most: a day has up to 25 hours, and
where midnight is no whole hour of UTC, the hours that it is made of reach beyond it."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Span = tuple[datetime, datetime]


def floor(instant: datetime, width: timedelta) -> datetime:
    """The last multiple of a width at or before an instant, in UTC."""
    return instant - (instant - EPOCH) % width


def of_quarters(quarters: Iterable[datetime]) -> list[Span]:
    """Quarters of an hour by their starts, neighbours joined."""
    return joined((quarter, quarter + QUARTER) for quarter in quarters)


def joined(spans: Iterable[Span], gap: timedelta = timedelta(0)) -> list[Span]:
    """The spans with neighbours joined that touch, overlap, or lie at most `gap` apart."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if result and start - result[-1][1] <= gap:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def without(spans: Iterable[Span], holes: Iterable[Span]) -> list[Span]:
    """What is left of the spans when the holes are taken out; both disjoint and rising."""
    result: list[Span] = []
    waiting = list(holes)
    passed = 0
    for start, end in spans:
        at = start
        while passed < len(waiting) and waiting[passed][0] < end:
            hole_start, hole_end = waiting[passed]
            if hole_start > at:
                result.append((at, hole_start))
            at = max(at, hole_end)
            if hole_end > end:
                break  # it may reach into the next span
            passed += 1
        if at < end:
            result.append((at, end))
    return result
