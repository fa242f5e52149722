"""From a question to a plan: which relation answers which part of the range, so that the answer is exactly the raw
one.

A roll-up row may stand in for its raw rows where all of this holds: its cell lies within the range, no bucket edge cuts
the cell, the cell is over, and none of its quarters of an hour is listed as late. The widest roll-up goes first;
what it cannot answer is left to the next one, and in the end to the raw rows: edges of the range, late quarters, the
present.

`first` and `last` over several devices need the time of each value, which a roll-up does not keep; they read raw rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from telemetry.query.aggregates import NEEDS_TIME
from telemetry.query.calendar import has_one_midnight, midnight
from telemetry.query.edges import Edges
from telemetry.query.question import By, Question
from telemetry.spans import EPOCH, QUARTER, Span, floor, joined, without

MAX_SEGMENTS = 12
"""Per relation; beyond it, neighbours become one segment that skips what lies between them row by row."""

Relation = Literal["readings", "15m", "1h", "1d", "counters_15m", "counters_1h", "counters_1d"]
CELLS_OF_COUNTERS: Mapping[Relation, Relation] = {"15m": "counters_15m", "1h": "counters_1h", "1d": "counters_1d"}
"""The roll-ups that tell how counters moved, by the ones with the same cells."""

_WORTH_A_SCAN: Mapping[Relation, timedelta] = {
    "readings": timedelta(minutes=30),
    "15m": timedelta(hours=3),
    "1h": timedelta(days=1),
    "1d": timedelta(days=7),
    "counters_15m": timedelta(hours=3),
    "counters_1h": timedelta(days=1),
    "counters_1d": timedelta(days=7),
}
"""A gap between two spans beyond which skipping its rows costs more than a scan of its own, in a city of some size."""

_FIXED: tuple[tuple[Relation, timedelta], ...] = (("1h", timedelta(hours=1)), ("15m", QUARTER))
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_LEAST = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the range that one relation answers.

    Attributes:
        spans: at least one; disjoint and rising. Rows between them do not count.
    """

    relation: Relation
    spans: tuple[Span, ...]

    @property
    def start(self) -> datetime:
        """Start of the first span."""
        return self.spans[0][0]

    @property
    def end(self) -> datetime:
        """End of the last span."""
        return self.spans[-1][1]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a question is answered; the spans of all segments together are its range, without overlap.

    Attributes:
        edges: of the buckets, in UTC, rising; one more than there are buckets.
        segments: of aggregates of rows, and of the samples of all others.
        changes: of the aggregates of the family `change`; their spans, too, are the range.
    """

    question: Question
    edges: Edges
    segments: tuple[Segment, ...]
    changes: tuple[Segment, ...]

    @property
    def source(self) -> str:
        """The relations that are read, the widest roll-up first, joined by `+`."""
        relations = dict.fromkeys(segment.relation for segment in self.segments)
        return "+".join(f"{self.question.domain.name}_{relation}" for relation in relations)

    def part(self, first: int, end: int) -> Plan:
        """The plan of the buckets from one position up to another; they are read from where this one reads them."""
        whole, edges = self.question, Edges(self.edges.cut(first, end + 1))
        # The outermost buckets may reach beyond the range.
        span = max(whole.start, edges[0]), min(whole.end, edges[-1])
        segments, changes = (tuple(_within(each, span)) for each in (self.segments, self.changes))
        return Plan(replace(whole, start=span[0], end=span[1]), edges, segments, changes)

    def has_buckets_of(self, relation: Relation) -> bool:
        """Whether each bucket is one cell of a relation, so that a device has one row in it."""
        if relation == "1d":
            return self.question.window.unit == "day"
        width = dict(_FIXED).get(relation)
        return width is not None and self.edges.are_cells(width)


CellOf = Callable[[datetime], Span]
"""The cell of a roll-up that holds an instant."""


def make_plan(
    question: Question,
    edges: Edges,
    late: Iterable[datetime],
    city_zone: str,
    counters_from: datetime | None = None,
) -> Plan:
    """The plan of a question.

    Args:
        edges: the bucket edges that `calendar.bucket_edges` gives for it.
        late: starts of the quarters of an hour whose roll-up rows may be stale.
        city_zone: time zone of the days of the daily roll-up.
        counters_from: from when on the counters asked for have cells; None where they have none.
    """
    quarters = sorted(set(late))
    roll_ups = list(_usable_roll_ups(question, edges, city_zone))
    segments = _cut(question, [] if needs_time(question) else roll_ups, quarters, question.start)
    changes = _cut(question, roll_ups, quarters, counters_from or question.end)
    return Plan(question, edges, tuple(segments), tuple(_of_counters(each) for each in changes))


def needs_time(question: Question) -> bool:
    """Whether it asks for the first or the last value of several devices, which roll-ups cannot tell."""
    asked = {each.name for aggregates in question.aggregates.values() for each in aggregates}
    return bool(asked & NEEDS_TIME) and question.by is not By.DEVICE


def _cut(
    question: Question, roll_ups: Iterable[tuple[Relation, CellOf]], late: Sequence[datetime], since: datetime
) -> list[Segment]:
    """The range in segments; roll-ups answer no part before `since`."""
    open_from = floor(question.now, QUARTER)
    first = min(max(question.start, since), question.end)
    remaining = [(first, question.end)] if first < question.end else []
    segments: list[Segment] = []
    for relation, cell_of in roll_ups:
        found = _whole_cells(remaining, cell_of, open_from)
        found = without(found, joined(_touched(late, cell_of)))
        if relation == "1d":
            found = without(found, joined(_unfit_days(found, question.zone)))
        segments += _segments(relation, found)
        remaining = without(remaining, found)
    before = [(question.start, first)] if question.start < first else []
    return segments + _segments("readings", joined([*before, *remaining]))


def _within(segments: Iterable[Segment], span: Span) -> Iterator[Segment]:
    """What they read of a span."""
    for segment in segments:
        cut = ((max(start, span[0]), min(end, span[1])) for start, end in segment.spans)
        if spans := tuple(each for each in cut if each[0] < each[1]):
            yield replace(segment, spans=spans)


def _of_counters(segment: Segment) -> Segment:
    return replace(segment, relation=CELLS_OF_COUNTERS.get(segment.relation, segment.relation))


def _usable_roll_ups(question: Question, edges: Edges, city_zone: str) -> Iterable[tuple[Relation, CellOf]]:
    if question.window.unit != "second" and question.zone.key == city_zone:
        yield "1d", lambda instant: _day_cell(instant, question)
    for relation, width in _FIXED:
        # The outermost edges lie at or beyond the ends of the range, so they cut no cell within it.
        if edges.are_multiples(width):
            yield relation, _fixed_cell(width)


def _fixed_cell(width: timedelta) -> CellOf:
    def cell(instant: datetime) -> Span:
        start = floor(instant, width)
        return start, start + width

    return cell


def _day_cell(instant: datetime, question: Question) -> Span:
    day = instant.astimezone(question.zone).date()
    return midnight(day, question.zone), midnight(day + _DAY, question.zone)


def _whole_cells(spans: Iterable[Span], cell_of: CellOf, open_from: datetime) -> list[Span]:
    """The parts of the spans that consist of whole, closed cells."""
    found = []
    for start, end in spans:
        first, last = cell_of(start), cell_of(min(end, open_from))
        whole = (start if first[0] == start else first[1]), last[0]
        if whole[0] < whole[1]:
            found.append(whole)
    return found


def _touched(quarters: Iterable[datetime], cell_of: CellOf) -> Iterator[Span]:
    """The cells that the quarters lie in; where a cell's edge cuts a quarter, both."""
    for quarter in quarters:
        yield cell_of(quarter)
        yield cell_of(quarter + QUARTER - _LEAST)


def _unfit_days(spans: Iterable[Span], zone: ZoneInfo) -> Iterator[Span]:
    for start, end in spans:
        for year in range(start.astimezone(zone).year, end.astimezone(zone).year + 1):
            yield from _unfit_days_of_year(year, zone)


@lru_cache(maxsize=512)
def _unfit_days_of_year(year: int, zone: ZoneInfo) -> tuple[Span, ...]:
    """Days that the daily roll-up does not hold exactly.

    It is made of hours, so the midnights of a zone that is off by half an hour cut its rows; and where the clocks show
    midnight twice or not at all, database and calendar may put the label elsewhere.
    """
    first = date(year, 1, 1)
    days = [first + timedelta(days=number) for number in range(-1, 367)]
    unfit = [day for day in days if not (has_one_midnight(day, zone) and _is_multiple(midnight(day, zone), _HOUR))]
    return tuple((midnight(day - _DAY, zone), midnight(day + _DAY, zone)) for day in unfit)


def _segments(relation: Relation, spans: Sequence[Span]) -> list[Segment]:
    """Segments of neighbouring spans, which are read in one scan that skips what lies between them."""
    gap = _WORTH_A_SCAN[relation]
    clusters = joined(spans, gap)
    while len(clusters) > MAX_SEGMENTS:
        gap *= 2
        clusters = joined(spans, gap)
    return [Segment(relation, tuple(span for span in spans if start <= span[0] < end)) for start, end in clusters]


def _is_multiple(instant: datetime, width: timedelta) -> bool:
    return (instant - EPOCH) % width == timedelta(0)
