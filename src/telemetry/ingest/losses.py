"""What the broker lost on the way to us, as far as it tells: messages that it dropped, sessions that it forgot.

It is counted in the hour in which it is noticed. How the counters stood is written with it, so that what was dropped
while no ingest was running is noticed by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from telemetry.mqtt.drops import BrokerDrops
from telemetry.mqtt.stats import SessionStats
from telemetry.store.broker_losses import DROPPED, LOST, Counts, Former
from telemetry.store.layout import HOUR_US


class Losses:
    """The account of one session.

    Args:
        on_dropped: told how many more messages the broker has dropped.
    """

    def __init__(self, drops: BrokerDrops, stats: SessionStats, on_dropped: Callable[[int], None]) -> None:
        self._drops = drops
        self._stats = stats
        self._on_dropped = on_dropped
        self._noted = {DROPPED: 0, LOST: 0}
        self._counts: Counts = {}
        self._written: tuple[Counts, dict[str, int]] = {}, {}

    def resume(self, former: Former) -> None:
        """Goes on from where a process before this one stopped."""
        self._drops.resume(former.counters)
        for key, count in former.counts.items():
            self._counts[key] = self._counts.get(key, 0) + count
        self._written = self.standing()

    def note(self) -> None:
        """Counts what is new in the present hour."""
        self._count(DROPPED, self._drops.total)
        self._count(LOST, self._stats.sessions_lost)

    def standing(self) -> tuple[Counts, dict[str, int]]:
        """How losses and counters stand."""
        return dict(self._counts), dict(self._drops.values)

    def news(self) -> tuple[Counts, dict[str, int]] | None:
        """The same where it is not written yet."""
        standing = self.standing()
        return None if standing == self._written else standing

    def written(self, standing: tuple[Counts, dict[str, int]]) -> None:
        """That much is in the database; hours that are over and written are forgotten."""
        self._written = standing
        for (hour_us, kind), count in standing[0].items():
            if hour_us < hour_of_now() and self._counts.get((hour_us, kind)) == count:
                del self._counts[hour_us, kind]
                del self._written[0][hour_us, kind]

    def _count(self, kind: str, total: int) -> None:
        more = total - self._noted[kind]
        if not more:
            return
        self._noted[kind] = total
        key = hour_of_now(), kind
        self._counts[key] = self._counts.get(key, 0) + more
        if kind == DROPPED:
            self._on_dropped(more)


def hour_of_now() -> int:
    """The present hour, in µs since 1970."""
    return time.time_ns() // 1000 // HOUR_US * HOUR_US
