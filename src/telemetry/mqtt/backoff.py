"""How long to wait before the next attempt."""

from __future__ import annotations

from random import Random


class Backoff:
    """Exponential with full jitter: many clients of a broker that comes back do not return at the same moment.

    Args:
        base: bound of the first delay, seconds; it doubles with each attempt.
        cap: bound of every delay, seconds.
        floor: least delay, seconds.
        random: where the jitter comes from.
    """

    def __init__(self, base: float, cap: float, *, floor: float = 0.0, random: Random | None = None) -> None:
        self._base = base
        self._cap = cap
        self._floor = floor
        self._random = random or Random()  # noqa: S311 - jitter is no secret
        self._attempts = 0

    def delay(self) -> float:
        """Seconds to wait now."""
        bound = min(self._cap, self._base * 2.0 ** min(self._attempts, 64))
        self._attempts += 1
        return self._random.uniform(self._floor, max(bound, self._floor))

    def reset(self) -> None:
        """Begins anew, after a connection that lasted."""
        self._attempts = 0
