"""When to send a PINGREQ, and when the broker counts as gone."""

from __future__ import annotations

from typing import Final

PING_AFTER: Final = 0.9
"""Of the interval: the specification counts to the moment at which the broker *receives* it."""

DEAD_AFTER: Final = 1.5
"""Of the interval: the same patience that the broker has with us."""


class KeepAlive:
    """The two silences of a connection. All times are monotonic seconds.

    Args:
        interval: seconds of silence allowed.
        now: when the connection began.
    """

    def __init__(self, interval: float, now: float) -> None:
        self._interval = interval
        self._sent = now
        self._heard = now
        self._pinged = False
        self._deaf = False

    def obey(self, server_keep_alive: int | None) -> None:
        """Takes over what the broker demands; 0 demands nothing, and then we go on to look after it as configured."""
        if server_keep_alive:
            self._interval = float(server_keep_alive)

    def sent(self, now: float) -> None:
        """Something was sent."""
        self._sent = now

    def heard(self, now: float) -> None:
        """Something was received."""
        self._heard = now
        self._pinged = False

    def listen(self, listening: bool, now: float) -> None:
        """Whether we read the socket: who does not listen must not take silence for death."""
        if listening and self._deaf:
            self.heard(now)
        self._deaf = not listening

    def wants_ping(self, now: float) -> bool:
        """Whether a PINGREQ is due, on account of our silence or, once, of the broker's."""
        due = now >= min(self._ping_times())
        self._pinged |= due
        return due

    def is_dead(self, now: float) -> bool:
        """Whether the broker has been silent for too long."""
        return not self._deaf and now >= self._dead_time()

    def deadline(self) -> float:
        """When the next of these questions may be answered with yes."""
        return min(*self._ping_times(), float("inf") if self._deaf else self._dead_time())

    def _ping_times(self) -> tuple[float, float]:
        ours = self._sent + PING_AFTER * self._interval
        theirs = float("inf") if self._pinged or self._deaf else self._heard + PING_AFTER * self._interval
        return ours, theirs

    def _dead_time(self) -> float:
        return self._heard + DEAD_AFTER * self._interval
