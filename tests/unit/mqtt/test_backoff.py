"""Waiting between attempts."""

from __future__ import annotations

from random import Random

from telemetry.errors import Unavailable
from telemetry.mqtt.backoff import Backoff
from telemetry.mqtt.subscriber import STABLE_AFTER_S, Subscriber
from telemetry.settings import MqttSettings


class Highest(Random):
    """Always the upper bound."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_backoff_bound_doubles_up_to_the_cap() -> None:
    backoff = Backoff(0.1, 30.0, random=Highest())
    assert [round(backoff.delay(), 1) for _ in range(11)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]


def test_backoff_begins_anew_after_a_reset() -> None:
    backoff = Backoff(0.1, 30.0, random=Highest())
    for _ in range(5):
        backoff.delay()
    backoff.reset()
    assert backoff.delay() == 0.1


def test_backoff_jitter_uses_the_whole_range() -> None:
    """Otherwise all clients of a broker that comes back would return together."""
    delays = [Backoff(10.0, 30.0, random=Random(seed)).delay() for seed in range(1000)]
    assert min(delays) < 0.5
    assert max(delays) > 9.5
    assert 4.5 < sum(delays) / len(delays) < 5.5


def test_backoff_never_goes_below_the_floor() -> None:
    backoff = Backoff(60.0, 600.0, floor=30.0, random=Random(1))
    delays = [backoff.delay() for _ in range(200)]
    assert min(delays) >= 30
    assert max(delays) > 500


def test_backoff_survives_years_of_attempts() -> None:
    backoff = Backoff(0.1, 30.0, random=Highest())
    assert {backoff.delay() for _ in range(5000)} >= {30.0}


def test_connection_that_worked_for_some_seconds_lets_the_backoff_begin_anew() -> None:
    subscriber = Subscriber(MqttSettings(), ["a/#"], lambda first, messages: None)
    subscriber._backoff = Backoff(0.1, 30.0, random=Highest())
    broken = Unavailable("the broker is away")
    # Connections that end at once, as where another process has the client id, are no reason to hurry.
    delays = [subscriber._delay(broken, worked_s) for worked_s in (0.0, 0.0, 1.0, 0.0, 2.0, 0.0, 0.0)]
    assert delays[-1] == 6.4
    assert subscriber._delay(broken, 15.0) == 0.1
    assert subscriber._delay(broken, 0.0) == 0.2
    assert STABLE_AFTER_S <= 5.0
