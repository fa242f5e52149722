"""What counters, gauges and states did between their readings, computed in memory from whole histories.

Nothing is cut at bucket edges here: a counter becomes a rising curve over all meters that it had, a gauge its
antiderivative, and a bucket's answer is the difference of the curve at its two edges.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

from telemetry.domains import Kind, Metric
from telemetry.query.question import By, Question
from telemetry.store.meter_swaps import Swap
from tests.integration.query.rows import Key, Row

REACH = timedelta(days=31)
HOUR = timedelta(hours=1)

History = Sequence[tuple[datetime, Any]]


def expected_steps(
    rows: Iterable[Row], question: Question, edges: Sequence[datetime], swaps: Sequence[Swap] = ()
) -> dict[Key, dict[str, Any]]:
    """What a question about `change` and `time` must answer, without samples."""
    found: defaultdict[Key, list[Mapping[str, Any]]] = defaultdict(list)
    clipped = [question.start, *edges[1:-1], question.end]
    rows = list(rows)
    for metric in question.metrics:
        for device in {row.device.device_id: row.device for row in rows}.values():
            history = _history(rows, device.device_id, metric, question)
            asked = (not question.devices or device.device_id in question.devices) and (
                not question.zones or device.zone in question.zones
            )
            if not asked:
                continue
            if metric.kind is Kind.COUNTER:
                of_device = [each for each in swaps if (each.device_id, each.metric) == (device.device_id, metric.name)]
                steps = _changes(history, of_device, metric, question)
            group = {By.NONE: None, By.DEVICE: device.device_id, By.ZONE: device.zone}[question.by]
            for start, (first, last) in zip(edges, pairwise(clipped), strict=False):
                if metric.kind is Kind.COUNTER:
                    values = _gained(steps, first, last)
                else:
                    values = _of_device(metric, history, first, last, question)
                if values is not None:
                    found[start, group, metric.name].append(values)
    return {key: _combined(question, key[2], each) for key, each in found.items()}


def _history(rows: Iterable[Row], device_id: str, metric: Metric, question: Question) -> History:
    """Readings of one device in the range, and the nearest one on either side of it."""
    every = sorted(
        (row.time, row.values[metric.name])
        for row in rows
        if row.device.device_id == device_id and row.values.get(metric.name) is not None
    )
    inside = [each for each in every if question.start <= each[0] < question.end]
    before = [each for each in every if each[0] < question.start]
    after = [each for each in every if each[0] >= question.end]
    return [*before[-1:], *inside, *after[:1]]


def _of_device(
    metric: Metric, history: History, first: datetime, last: datetime, question: Question
) -> dict[str, Any] | None:
    if metric.kind is Kind.STATE:
        return _held(history, first, last, question)
    gap = question.max_gap or REACH
    pairs = [(*one, *other) for one, other in pairwise(history) if other[0] - one[0] <= gap]
    if not (hours := _hours([(t0, t1) for t0, _, t1, _ in pairs], first, last)):
        return None
    amount = sum(_area(*pair, last) - _area(*pair, first) for pair in pairs)
    return {"time_avg": amount / hours, "integral": amount}


def _hours(steps: Iterable[tuple[datetime, datetime]], first: datetime, last: datetime) -> float:
    """How much of a bucket the steps know of."""
    return sum((max(timedelta(0), min(t1, last) - max(t0, first)) for t0, t1 in steps), timedelta(0)) / HOUR


Steps = Sequence[tuple[datetime, datetime, float]]
"""Of a counter, in order: from, to, gained."""


def _changes(history: History, swaps: Iterable[Swap], metric: Metric, question: Question) -> Steps:
    """The steps of a counter whose meter may have been swapped: at these instants the old and the new one stand
    side by side."""
    read = dict(history)
    swapped = {each.time: each for each in swaps}
    assert metric.glitch is not None
    change = partial(_change, reset=question.reset, least=1 - metric.glitch)
    steps = []
    for t0, t1 in pairwise(sorted(read.keys() | swapped.keys())):
        index = read[t0] if t0 in read else swapped[t0].start_index
        if swap := swapped.get(t1):
            gained = 0.0 if swap.final_index is None else change(index, swap.final_index)
            gained += change(swap.start_index, read[t1]) if t1 in read else 0.0
        else:
            gained = change(index, read[t1])
        steps.append((t0, t1, gained))
    return steps


def _gained(steps: Steps, first: datetime, last: datetime) -> dict[str, Any] | None:
    if not (hours := _hours([(t0, t1) for t0, t1, _ in steps], first, last)):
        return None
    amount = _risen(steps, last) - _risen(steps, first)
    return {"increase": amount, "rate": amount / hours}


def _change(v0: float, v: float, reset: str, least: float) -> float:
    if v >= least * v0:
        return v - v0
    for modulus in sorted([10.0**digits for digits in range(4, 13)] + [2.0**32, 2.0**32 / 1000]):
        if v0 < modulus and modulus - v0 + v <= modulus / 100:
            return modulus - v0 + v
    return v if reset == "zero" else 0.0


def _risen(steps: Steps, at: datetime) -> float:
    """The corrected counter at an instant, counted from its first reading."""
    total = 0.0
    for t0, t1, change in steps:
        total += change * min(1.0, max(0.0, (at - t0) / (t1 - t0)))
    return total


def _area(t0: datetime, v0: float, t1: datetime, v1: float, at: datetime) -> float:
    """The area under one line up to an instant, in value hours."""
    part = min(1.0, max(0.0, (at - t0) / (t1 - t0)))
    return ((t1 - t0) / HOUR) * part * (v0 + (v1 - v0) * part / 2)


def _held(history: History, first: datetime, last: datetime, question: Question) -> dict[str, Any] | None:
    last = min(last, question.now)
    seconds: defaultdict[Any, float] = defaultdict(float)
    changes = sorted(
        {first, last, *(at for at, _ in history)} | {at + (question.max_gap or REACH) for at, _ in history}
    )
    times = [at for at, _ in history]
    for start, end in pairwise(at for at in changes if first <= at <= last):
        position = bisect_right(times, start) - 1
        if position >= 0 and start - times[position] < (question.max_gap or REACH):
            seconds[history[position][1]] += (end - start).total_seconds()
    return dict(seconds) or None


def _combined(question: Question, metric_name: str, devices: Sequence[Mapping[Any, Any]]) -> dict[str, Any]:
    metric = question.domain.metrics[metric_name]
    found: dict[str, Any] = {}
    for aggregate in question.aggregates[metric_name]:
        divisor = len(devices) if aggregate.combine == "mean" else 1
        if metric.kind is not Kind.STATE:
            found[aggregate.name] = sum(each[aggregate.name] for each in devices) / divisor
            continue
        words: defaultdict[Any, float] = defaultdict(float)
        for each in devices:
            for word, seconds in each.items():
                words[word] += seconds if aggregate.name == "duration" else seconds / sum(each.values())
        if metric.value_type == "boolean":
            found[aggregate.name] = words[True] / divisor
        else:
            found[aggregate.name] = {word: part / divisor for word, part in words.items()}
    return found
