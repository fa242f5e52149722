"""What the simulator says it has published, read from the log lines of its process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class PublishedLog:
    """Follows the JSON log of one run of the simulator.

    Attributes:
        phase: `starting`, `backfill`, `live` or `done`.
        backfill_total: readings that the backfill will have, once it has begun.
        per_domain: readings acknowledged by the broker, as of the last line.
        messages: messages acknowledged by the broker, as of the last line.
        repeated: messages sent again after a lost connection; each may have arrived twice.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._offset = 0
        self.phase = "starting"
        self.backfill_total = 0
        self.per_domain: Mapping[str, int] = {}
        self.messages = 0
        self.repeated = 0

    @property
    def readings(self) -> int:
        """Readings acknowledged by the broker, of all domains."""
        return sum(self.per_domain.values())

    def refresh(self) -> None:
        """Reads the lines that were added; a line that is not finished waits for the next time."""
        if not self._log.exists():
            return
        with self._log.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            said: Any = json.loads(line)
        except ValueError:
            return
        event = said.get("event") if isinstance(said, dict) else None
        if event == "simulate_backfilled":
            self.phase = "live"
        if event in ("simulate_progress", "simulate_done"):
            self.phase = "done" if event == "simulate_done" else str(said["phase"])
            self.backfill_total = int(said.get("total", self.backfill_total))
            self.per_domain, self.messages = said["per_domain"], int(said["messages"])
            self.repeated = int(said["repeated"])
