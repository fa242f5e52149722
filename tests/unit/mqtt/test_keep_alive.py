"""The two silences."""

from __future__ import annotations

import math

import pytest

from telemetry.mqtt.keep_alive import KeepAlive

T = 1000.0


def alive(interval: float = 10.0) -> KeepAlive:
    return KeepAlive(interval, T)


def test_keep_alive_pings_before_its_own_silence_is_too_long() -> None:
    keep = alive()
    keep.heard(T + 8)
    assert not keep.wants_ping(T + 8.9)
    assert keep.deadline() == T + 9
    assert keep.wants_ping(T + 9)


def test_keep_alive_sending_puts_the_ping_off() -> None:
    keep = alive()
    keep.heard(T + 5)
    keep.sent(T + 5)
    assert not keep.wants_ping(T + 13.9)
    assert keep.wants_ping(T + 14)


def test_keep_alive_pings_a_silent_broker_once_even_while_we_send() -> None:
    """Acknowledgements may go into a dead connection for long; only an answer proves that somebody reads them."""
    keep = alive()
    keep.sent(T + 8.5)
    assert keep.wants_ping(T + 9)
    keep.sent(T + 9)
    assert not keep.wants_ping(T + 9.5)


def test_keep_alive_broker_is_dead_after_one_and_a_half_intervals() -> None:
    keep = alive()
    assert not keep.is_dead(T + 14.9)
    assert keep.is_dead(T + 15)
    keep.heard(T + 15)
    assert not keep.is_dead(T + 29)


def test_keep_alive_who_does_not_listen_does_not_judge_but_goes_on_pinging() -> None:
    keep = alive()
    keep.listen(False, T + 1)
    assert not keep.is_dead(T + 1000)
    assert keep.wants_ping(T + 9)
    keep.sent(T + 9)
    assert keep.deadline() == T + 18


def test_keep_alive_listening_again_begins_a_new_wait() -> None:
    keep = alive()
    keep.listen(False, T + 1)
    keep.listen(True, T + 500)
    assert not keep.is_dead(T + 514)
    assert keep.is_dead(T + 515)


@pytest.mark.parametrize(("server", "first_ping"), [(2, T + 1.8), (100, T + 90), (0, T + 9), (None, T + 9)])
def test_keep_alive_obeys_the_server(server: int | None, first_ping: float) -> None:
    keep = alive()
    keep.obey(server)
    assert keep.deadline() == pytest.approx(first_ping)
    assert not math.isinf(keep.deadline())
