"""How large the answer of a question may be: refused before anything is read, with the number that it would have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from telemetry.errors import TooLarge
from telemetry.query.calendar import bucket_edges
from telemetry.query.edges import Edges
from telemetry.query.question import Fill, Question

MAX_BUCKETS = 1_000_000
"""The edges of all buckets are kept in memory, also for an answer that is read part by part."""
MANY = 20_000
"""Edges from which on work on them is done beside the event loop, which every other question needs, too."""
REACHING = (Fill.LOCF, Fill.LINEAR)
"""What fills from other buckets."""
Made = TypeVar("Made")

_LEAST = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one answer may have.

    Attributes:
        values: of the buckets in the range.
        in_memory: values of the buckets outside of it that reach into it; of one bucket, where it is merged by itself.
    """

    values: int
    in_memory: int

    def check_buckets(self, question: Question) -> None:
        """Refuses before the edges are laid: a second's windows of a century would not fit into memory.

        Raises:
            TooLarge: already one group would have too many values, or there are too many buckets.
        """
        least = int((question.end - question.start) / question.window.nominal)
        values = least * question.values_per_bucket
        if values > self.values:
            raise too_large(f"at least {values:,} values", values, self.values)
        if least > MAX_BUCKETS:
            raise too_large(f"at least {least:,} buckets", least, MAX_BUCKETS)
        self._check_reach(question, 1)

    def check_values(self, question: Question, buckets: int, groups: int) -> None:
        """Refuses what the buckets and groups together would have.

        Raises:
            TooLarge: too many values.
        """
        series = groups * question.values_per_bucket
        values = buckets * series
        if values > self.values:
            raise too_large(f"up to {values:,} values ({buckets:,} buckets x {series:,} series)", values, self.values)
        self._check_reach(question, groups)

    def check_bucket(self, question: Question, groups: int) -> None:
        """Refuses what one bucket would have, of an answer that is made a stretch of buckets at a time.

        Raises:
            TooLarge: too many values.
        """
        values = groups * question.values_per_bucket
        if values > self.in_memory:
            raise too_large(f"up to {values:,} values in each bucket", values, self.in_memory)

    def _check_reach(self, question: Question, groups: int) -> None:
        if question.max_gap is None or question.fill not in REACHING:
            return
        buckets, series = int(question.max_gap / question.window.nominal), groups * question.values_per_bucket
        if buckets * series > self.in_memory:
            raise TooLarge(
                "max_gap",
                f"{buckets:,} buckets",
                f"up to {buckets * series:,} values ({buckets:,} buckets before the range x {series:,} series) would "
                f"be looked at, and {self.in_memory:,} are allowed; ask for a shorter one, a wider window, fewer "
                "metrics and aggregates, or fewer devices",
                buckets * series,
                self.in_memory,
            )


async def laid_edges(question: Question) -> Edges:
    """The edges of a question's buckets."""
    make = partial(bucket_edges, question.window, question.start, question.end, question.zone)
    return await aside(make, int((question.end - question.start) / question.window.nominal))


async def aside(make: Callable[[], Made], edges: int) -> Made:
    """What is made of so many edges, beside the event loop where they are many."""
    return make() if edges < MANY else await asyncio.to_thread(make)


def outer_edge(question: Question, furthest: datetime) -> datetime:
    """The start of the bucket that holds an instant before the range, the end of one after it."""
    if furthest < question.start:
        return bucket_edges(question.window, furthest, furthest + _LEAST, question.zone)[0]
    return bucket_edges(question.window, furthest - _LEAST, furthest, question.zone)[-1]


def too_large(size: str, estimate: int, most: int) -> TooLarge:
    """An answer of that size, in words and as a figure, is refused."""
    return TooLarge(
        "window",
        size,
        f"the answer would have {size}, and {most:,} are allowed; ask for a wider window, a shorter range, "
        "fewer metrics and aggregates, or fewer devices",
        estimate,
        most,
    )
