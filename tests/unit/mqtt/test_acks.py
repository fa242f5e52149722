"""The ack frontier, compared with the plainest thing that could be right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mqtt5 import PubAckPacket, PubRecPacket

from telemetry.mqtt.acks import NOTHING, PUBACK, PUBREC, AckFrontier, encode


def frontier(count: int) -> AckFrontier:
    made = AckFrontier()
    for number in range(count):
        made.push(PUBACK | number)
    return made


def ids(words: object) -> list[int]:
    return [word & 0xFFFF for word in words]  # type: ignore[attr-defined]


def test_frontier_acknowledges_what_is_settled_in_order() -> None:
    acks = frontier(10)
    assert ids(acks.settle(0, 4)) == [0, 1, 2, 3]
    assert ids(acks.settle(4, 5)) == [4]
    assert acks.unsettled == 5


def test_frontier_waits_for_the_first_unsettled_message() -> None:
    acks = frontier(10)
    assert ids(acks.settle(6, 8)) == []
    assert ids(acks.settle(3, 6)) == []
    assert ids(acks.settle(0, 3)) == list(range(8))


def test_frontier_settling_twice_acknowledges_once() -> None:
    acks = frontier(10)
    acks.settle(0, 5)
    assert ids(acks.settle(2, 7)) == [5, 6]
    assert ids(acks.settle(0, 7)) == []


def test_frontier_refuses_what_was_never_delivered() -> None:
    with pytest.raises(ValueError, match="message 10 cannot be settled: only those below 10 were delivered"):
        frontier(10).settle(8, 11)


def test_frontier_numbers_go_on_over_epochs_and_older_ones_are_passed_over() -> None:
    acks = frontier(10)
    acks.begin_epoch()
    assert (acks.next, acks.unsettled) == (10, 0)
    acks.push(PUBACK | 99)
    assert ids(acks.settle(0, 10)) == []
    assert ids(acks.settle(5, 11)) == [99]


def test_frontier_forgets_at_a_new_epoch_what_was_settled_ahead() -> None:
    acks = frontier(10)
    acks.settle(5, 10)
    acks.begin_epoch()
    for number in range(10, 20):
        acks.push(PUBACK | number)
    assert ids(acks.settle(0, 5)) == []
    assert ids(acks.settle(10, 11)) == [10]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("deliver"), st.integers(1, 8), st.just(0)),
            st.tuples(st.just("settle"), st.integers(0, 15), st.integers(1, 6)),
            st.tuples(st.just("epoch"), st.just(0), st.just(0)),
        )
    )
)
def test_frontier_acknowledges_exactly_the_settled_prefix_of_the_epoch(steps: list[tuple[str, int, int]]) -> None:
    """[MQTT-4.6.0-2]: in order of receipt; never what is unsettled, of an older epoch, or done already."""
    acks, settled, acked, begun = AckFrontier(), set[int](), list[int](), 0
    for step, first, count in steps:
        if step == "deliver":
            for _ in range(first):
                acks.push(PUBACK | acks.next)
        elif step == "epoch":
            acks.begin_epoch()
            begun, acked, settled = acks.next, [], set()
        else:
            first = max(0, acks.next - first)
            end = min(acks.next, first + count)
            settled |= set(range(first, end))
            acked += ids(acks.settle(first, end))
        prefix: list[int] = []
        while begun + len(prefix) in settled:
            prefix.append(begun + len(prefix))
        assert acked == prefix
        assert acks.unsettled == acks.next - begun - len(prefix)


def test_repeat_goes_out_at_once_when_nothing_is_unsettled() -> None:
    acks = frontier(3)
    acks.settle(0, 3)
    acks.repeat(PUBREC | 77)
    assert ids(acks.due()) == [77]
    assert ids(acks.due()) == []


def test_repeat_keeps_its_place_in_the_order_of_receipt() -> None:
    """[MQTT-4.6.0-3] holds for the answer to a repeated message as well."""
    acks = frontier(2)
    acks.repeat(PUBREC | 77)
    acks.push(PUBACK | 2)
    acks.push(PUBACK | 3)
    acks.repeat(PUBREC | 88)
    assert ids(acks.due()) == []
    assert ids(acks.settle(0, 1)) == [0]
    assert ids(acks.settle(1, 3)) == [1, 77, 2]
    assert ids(acks.settle(3, 4)) == [3, 88]


def test_repeat_asked_for_many_times_is_kept_once() -> None:
    acks = frontier(1)
    for _ in range(1000):
        acks.repeat(PUBREC | 77)
    assert ids(acks.settle(0, 1)) == [0, 77]


@given(st.lists(st.tuples(st.sampled_from([PUBACK, PUBREC, NOTHING]), st.integers(1, 65_535))))
def test_encode_is_what_the_codec_writes(kinds: list[tuple[int, int]]) -> None:
    acks, expected = AckFrontier(), b""
    for kind, packet_id in kinds:
        acks.push(kind and kind | packet_id)
        if kind != NOTHING:
            expected += (PubAckPacket if kind == PUBACK else PubRecPacket)(packet_id).write()
    assert encode(acks.settle(0, acks.next)) == expected
