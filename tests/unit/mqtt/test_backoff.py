"""Waiting between attempts."""

from __future__ import annotations

from random import Random

from telemetry.mqtt.backoff import Backoff


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
