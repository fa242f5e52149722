"""One look a second at a running demo: ledger, simulator and the metrics of ingest."""

from __future__ import annotations

import time
from collections import deque
from typing import Final

from telemetry.demo import accounts, http
from telemetry.demo.accounts import Accounts, Totals
from telemetry.demo.published import PublishedLog
from telemetry.demo.services import Services
from telemetry.demo.view import Status

MESSAGES: Final = "telemetry_ingest_messages_total"
LAG: Final = "telemetry_ingest_lag_seconds"

_RATE_OVER: Final = 5
"""Looks over which the rate is averaged."""


class Meter:
    """Reads the state of a demo; everything is counted from the accounts at its start."""

    def __init__(self, running: Services, before: Accounts, published: PublishedLog) -> None:
        self._running = running
        self._before = sum(before.ledger.values(), Totals())
        self._published = published
        self._begun = time.monotonic()
        self._counted: deque[tuple[float, float]] = deque(maxlen=_RATE_OVER)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the city began."""
        return time.monotonic() - self._begun

    async def read(self, draining: bool = False) -> Status:
        """The present state."""
        self._published.refresh()
        metrics = await http.get(self._running.metrics_url, within_s=2.0) or ""
        totals = sum((await accounts.ledger(self._running.database)).values(), Totals()) - self._before
        return Status(
            elapsed_s=round(self.elapsed_s, 1),
            phase="draining" if draining else self._published.phase,
            messages_per_s=self._rate(http.metric(metrics, MESSAGES)),
            published=self._published.readings,
            received=totals.received,
            stored=totals.stored,
            duplicate=totals.duplicate,
            quarantined=totals.quarantined,
            backfill_share=self._share(totals.received),
            lag_s=http.metric(metrics, LAG),
        )

    def _rate(self, messages: float | None) -> float:
        if messages is None:
            return 0.0
        self._counted.append((time.monotonic(), messages))
        (first, had), (last, has) = self._counted[0], self._counted[-1]
        return round((has - had) / (last - first), 1) if last > first else 0.0

    def _share(self, received: int) -> float:
        total = self._published.backfill_total
        if not total:
            return float(self._published.phase in ("live", "done"))
        return round(min(1.0, received / total), 3)
