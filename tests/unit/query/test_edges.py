"""Edges in stretches are the instants that they are made of, and told about as if they were looked at one by one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from telemetry.query.edges import Edges, single, steps
from telemetry.query.instants import microseconds

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
GAPS = st.sampled_from([timedelta(minutes=5), QUARTER, QUARTER, QUARTER, timedelta(hours=1)])
INSTANTS = st.lists(GAPS, min_size=1, max_size=12).flatmap(
    lambda gaps: st.integers(-50, 50).map(
        lambda first: [*accumulate(gaps, initial=EPOCH + first * timedelta(minutes=5))]
    )
)


@given(instants=INSTANTS, at=st.integers(-13, 12), other=st.integers(-13, 13))
def test_edges_are_a_sequence_of_their_instants(instants: list[datetime], at: int, other: int) -> None:
    edges = Edges(map(single, instants))
    assert edges == instants
    assert (len(edges), edges[0], edges[-1]) == (len(instants), instants[0], instants[-1])
    assert edges[at:other] == instants[at:other]
    if -len(instants) <= at < len(instants):
        assert (edges[at], edges.at(at)) == (instants[at], microseconds(instants[at]))


@given(instants=INSTANTS, width=GAPS)
def test_edges_tell_of_all_what_each_would_tell(instants: list[datetime], width: timedelta) -> None:
    edges = Edges(map(single, instants))
    lengths = [after - before for before, after in pairwise(instants)]
    assert edges.seconds() == [each.total_seconds() for each in lengths]
    assert edges.are_multiples(width) is not any((each - EPOCH) % width for each in instants[1:-1])
    is_cell = all(each == width for each in lengths) and not (instants[0] - EPOCH) % width
    assert edges.are_cells(width) is is_cell


@given(instants=INSTANTS, at=st.integers(-20, 60))
def test_edges_up_to_an_instant_are_counted(instants: list[datetime], at: int) -> None:
    instant = instants[0] + at * timedelta(minutes=3)
    edges = Edges(map(single, instants))
    assert edges.up_to(microseconds(instant)) == sum(each <= instant for each in instants)


@given(instants=INSTANTS, data=st.data())
def test_edges_around_a_range_are_those_that_hold_it(instants: list[datetime], data: st.DataObject) -> None:
    first, last = instants[0], instants[-1]
    start = data.draw(st.datetimes(first.replace(tzinfo=None), last.replace(tzinfo=None)), "start").replace(tzinfo=UTC)
    length = data.draw(st.timedeltas(timedelta(microseconds=1), max(last - start, timedelta(microseconds=1))), "length")
    end = min(start + length, last)
    if start == end:
        return
    repeated = [piece for each in instants for piece in (single(each), single(each))]
    edges = Edges.around(repeated, start, end)
    before = max(each for each in instants if each <= start)
    behind = min(each for each in instants if each >= end)
    assert edges == [each for each in instants if before <= each <= behind]


def test_even_pieces_are_one_stretch() -> None:
    days = [EPOCH + timedelta(days=day) for day in range(31)]
    edges = Edges(steps(day, after, QUARTER) for day, after in pairwise(days))
    assert [(len(each), each.step) for each in edges.stretches] == [(30 * 96, 15 * 60 * 1_000_000)]
