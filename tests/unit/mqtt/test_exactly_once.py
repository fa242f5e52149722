"""The life of a QoS 2 packet id on the receiving side."""

from __future__ import annotations

import pytest

from telemetry.mqtt.acks import PUBACK, PUBREC
from telemetry.mqtt.exactly_once import ExactlyOnce


def acknowledged(packet_id: int) -> ExactlyOnce:
    once = ExactlyOnce()
    assert once.is_new(packet_id, duplicate=False)
    assert once.acknowledge([PUBREC | packet_id]) == 1
    return once


def test_id_is_taken_until_it_is_released() -> None:
    once = acknowledged(7)
    assert not once.is_new(7, duplicate=True)
    assert once.release(7)
    assert once.complete(7)
    assert once.is_new(7, duplicate=False)


def test_id_awaiting_release_survives_a_reconnect() -> None:
    once = acknowledged(7)
    once.begin_epoch()
    assert not once.is_new(7, duplicate=True)


def test_id_awaiting_release_is_forgotten_with_the_session() -> None:
    once = acknowledged(7)
    once.begin_epoch()
    once.forget()
    assert once.is_new(7, duplicate=True)


def test_id_that_was_only_delivered_is_delivered_again_after_a_reconnect() -> None:
    once = ExactlyOnce()
    once.is_new(7, duplicate=False)
    once.begin_epoch()
    assert once.is_new(7, duplicate=True)


@pytest.mark.parametrize("reconnected", [False, True])
def test_id_given_away_again_without_dup_is_a_new_message(reconnected: bool) -> None:
    """A redelivery has DUP [MQTT-3.3.1-1]; without it this is another message, and dropping it would lose it."""
    once = acknowledged(7)
    if reconnected:
        once.begin_epoch()
    assert once.is_new(7, duplicate=False)
    assert once.owes_pubrec(7)


def test_window_is_held_by_messages_of_this_connection_only() -> None:
    once = acknowledged(7)
    assert once.holds_window(7)
    once.begin_epoch()
    assert not once.holds_window(7)
    assert once.release(7)
    assert not once.complete(7)


def test_acknowledge_counts_pubrecs_only() -> None:
    once = ExactlyOnce()
    once.is_new(7, duplicate=False)
    assert once.acknowledge([PUBACK | 7, PUBREC | 7, 0]) == 1
    assert not once.release(8)
