"""How far the clocks of the devices are off, estimated from what they send.

The rules
---------
Delay.    Receipt minus `time` is what the way took, less what the device's clock is ahead. The way only ever adds. So
          the least delay of a window of time says most about the clock: the minimum filter of NTP.
Ahead.    A negative delay is a clock that is ahead, by at least so much: nothing arrives before it is sent.
Behind.   A positive delay is a clock that is behind, or a reading that was long on its way; one cannot tell which.
Windows.  One upload of old data, one odd reading or the backlog after an outage is no wrong clock. Of the last two
          quarters of an hour in which the device reported, the one nearer to zero counts; and as long as there is
          only one, only a clock that is ahead is told.
No time.  A reading without `time` has that of its receipt, which tells nothing and is passed over.

The refused readings count as well: `clock_future` and `clock_past` are where a broken clock shows. At most a few
hundred readings of a batch are looked at, so that the cost of a message stays what it is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from random import randrange
from typing import Final, TypeVar

from telemetry.store.batch import Batch
from telemetry.store.clocks import Clock
from telemetry.store.layout import DEVICE_KEY, HOUR_US, QUARTER_US, RECEIVED_AT, SECOND_US, TIME

Some = TypeVar("Some")

WINDOW_US: Final = QUARTER_US
BANDS_S: Final = (5, 60, 300)
"""Seconds beyond which skewed clocks are counted."""

_PER_BATCH: Final = 500
_AT_MOST: Final = 250_000
"""Devices that are remembered; 60 MB. Further ones wait until some have been silent for an hour."""
_PER_FLUSH: Final = 5_000
"""Some 6 ms of CPU in which nothing else is done."""
_BANDS_US: Final = [beyond_s * SECOND_US for beyond_s in BANDS_S]
_RECEIPT_US: Final = SECOND_US // 10
"""A reading without `time` is dated to its receipt, or so little after it that no two are alike."""


class _Estimate:
    """What is known of one clock.

    Attributes:
        began_us: receipt of the first reading of the window.
        seen_us: receipt of the newest one.
        least_us: the least delay of the window.
        before_us: that of the window before it.
        band: where the clock was counted: how many of BANDS_S it exceeds, negative when behind; 0 is not counted.
    """

    __slots__ = ("band", "before_us", "began_us", "least_us", "seen_us", "told_at_us", "told_us")

    def __init__(self, delay_us: int, received_us: int) -> None:
        self.began_us = self.seen_us = received_us
        self.least_us = delay_us
        self.before_us: int | None = None
        self.band = 0
        self.told_us: int | None = None
        self.told_at_us = 0

    def add(self, delay_us: int, received_us: int) -> None:
        """Takes a reading."""
        if received_us - self.began_us >= WINDOW_US:
            self.before_us, self.least_us, self.began_us = self.least_us, delay_us, received_us
        elif delay_us < self.least_us:
            self.least_us = delay_us
        self.seen_us = received_us

    @property
    def skew_us(self) -> int | None:
        """Positive is ahead; None while it is too early to say."""
        if self.before_us is not None:
            return -min(self.before_us, self.least_us, key=abs)
        return -self.least_us if self.least_us < BANDS_S[0] * SECOND_US else None

    def is_news(self, skew_us: int) -> bool:
        """Whether the table is to be told: the first time, at a change, and every window."""
        if self.told_us is None or self.seen_us - self.told_at_us >= WINDOW_US:
            return True
        return abs(skew_us - self.told_us) > max(SECOND_US, abs(self.told_us) // 10)


class Clocks:
    """The clocks of all devices that this process hears of."""

    def __init__(self) -> None:
        self._estimates: dict[int | str, _Estimate] = {}
        self._touched: dict[int | str, None] = {}
        self._bands: Counter[int] = Counter()

    def observe(self, batch: Batch) -> None:
        """Looks at some readings of a batch."""
        total = sum([len(readings.entries) for readings in batch.readings.values()])
        for readings in batch.readings.values():
            for entry in _some(readings.entries, 1 + total // _PER_BATCH):
                self._see(entry[DEVICE_KEY], entry[TIME], entry[RECEIVED_AT])
        for device, time_us, received_us in _some(batch.wrong_clocks, 1 + len(batch.wrong_clocks) // _PER_BATCH):
            self._see(device, time_us, received_us)

    def news(self) -> list[Clock]:
        """The clocks that are to be written; each is handed out once."""
        if len(self._estimates) >= _AT_MOST:
            self._forget_silent()
        touched = list(islice(self._touched, _PER_FLUSH))
        for device in touched:
            del self._touched[device]
        return [clock for device in touched if (clock := self._judge(device)) is not None]

    def skewed(self) -> Iterable[tuple[str, int, int]]:
        """Direction, seconds, and how many clocks are off by more than that, as of the last `news`."""
        for place, beyond_s in enumerate(BANDS_S, 1):
            yield "ahead", beyond_s, sum(count for band, count in self._bands.items() if band >= place)
            yield "behind", beyond_s, sum(count for band, count in self._bands.items() if band <= -place)

    def _see(self, device: int | str, time_us: int, received_us: int) -> None:
        delay_us = received_us - time_us
        if -_RECEIPT_US < delay_us <= 0:
            return
        estimate = self._estimates.get(device)
        if estimate is not None:
            estimate.add(delay_us, received_us)
        elif len(self._estimates) < _AT_MOST:
            self._estimates[device] = _Estimate(delay_us, received_us)
        else:
            return
        self._touched[device] = None

    def _judge(self, device: int | str) -> Clock | None:
        estimate = self._estimates.get(device)
        if estimate is None or (skew_us := estimate.skew_us) is None:
            return None
        if (band := _band(skew_us)) != estimate.band:
            self._bands[estimate.band] -= 1
            self._bands[band] += 1
            estimate.band = band
        if not estimate.is_news(skew_us):
            return None
        estimate.told_us, estimate.told_at_us = skew_us, estimate.seen_us
        return Clock(device, skew_us, estimate.seen_us)

    def _forget_silent(self) -> None:
        newest_us = max(estimate.seen_us for estimate in self._estimates.values())
        for device, estimate in list(self._estimates.items()):
            if newest_us - estimate.seen_us > HOUR_US:
                self._bands[estimate.band] -= 1
                del self._estimates[device]


def _some(rows: Sequence[Some], step: int) -> Sequence[Some]:
    """Every so many-th row, beginning anywhere: devices that take turns must not hide between the steps."""
    return rows if step == 1 else rows[randrange(step) :: step]  # noqa: S311 - no secret depends on it


def _band(skew_us: int) -> int:
    band = bisect_left(_BANDS_US, abs(skew_us))
    return band if skew_us > 0 else -band
