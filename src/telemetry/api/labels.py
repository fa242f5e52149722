"""The labels of many buckets: from day to day the date changes, and the times of a day stay.

A label made on its own takes as long as the rest of its row.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

from telemetry.query.edges import Edges
from telemetry.query.instants import instant

DATE = "2000-01-01"
"""A date as labels have it."""
_MOST = 288
"""Labels of a day that are kept together: those of five minutes."""
_MICROSECOND = timedelta(microseconds=1)
_DAY = timedelta(days=1) // _MICROSECOND

Times = tuple[str, ...]
"""What follows the date in some labels of one day: time and offset."""


def labels(edges: Edges, zone: ZoneInfo, first: int, end: int) -> Iterator[tuple[str, Times]]:
    """The labels of the edges from one position up to another, as dates with what follows them.

    Joined, they are what `instants.format_instant` makes of each. Clocks change once in a day at the most, as the
    calendar has it (`calendar.bucket_edges`).
    """
    for stretch in edges.cut(first, end):
        while stretch:
            local = instant(stretch[0]).astimezone(zone)
            offset = local.utcoffset()
            assert offset is not None
            at = (stretch[0] + offset // _MICROSECOND) % _DAY
            count = min(len(stretch), _MOST, -((at - _DAY) // stretch.step))
            while instant(stretch[count - 1]).astimezone(zone).utcoffset() != offset:
                count //= 2
            yield local.date().isoformat(), _times(at, stretch.step, count, offset)
            stretch = stretch[count:]


@lru_cache(maxsize=64)
def _times(first: int, step: int, count: int, offset: timedelta) -> Times:
    """As many as `count`, from so many microseconds after midnight on."""
    at, width = datetime.fromisoformat(DATE).replace(tzinfo=timezone(offset)), timedelta(microseconds=step)
    at += timedelta(microseconds=first)
    return tuple((at + number * width).isoformat().removeprefix(DATE) for number in range(count))
