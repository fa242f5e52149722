"""How large the scenarios are, and what they found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tests.benchmarks.drive import Run
from tests.benchmarks.figures import Figure, figure

DOMAINS: Final = ("lighting", "energy", "parking", "waste")
DEVICES: Final = 2_000


@dataclass(frozen=True)
class Plan:
    """Sizes.

    Attributes:
        messages: of one run at full speed.
        seconds: length of a sustained run; takes the place of `messages` in the throughput scenario.
        rounds: runs of each kind, interleaved.
        half_s: seconds at half load.
        backlog: messages that the broker holds before ingest starts.
        outage_s: how long the database is away.
        outage_rate: messages per second meanwhile.
    """

    messages: int
    seconds: float
    rounds: int
    half_s: float
    backlog: int
    outage_s: float
    outage_rate: float


@dataclass
class Report:
    """What the scenarios found."""

    figures: list[Figure] = field(default_factory=list)
    missing: int = 0
    calibrations: list[float] = field(default_factory=list)

    def take(self, run: Run) -> Run:
        """Accounts for a run."""
        self.missing += run.missing
        self.calibrations.append(run.calibration_s)
        return run

    def close(self) -> None:
        """Adds what concerns all runs."""
        self.figures.append(figure("all runs", "missing or unbalanced", [self.missing], form=",.0f", most=0))
        if self.calibrations:
            note = "2,000,000 rounds of a loop in pure Python, before each run"
            self.figures.append(figure("", "calibration", self.calibrations, "s", form=".3f", note=note))
