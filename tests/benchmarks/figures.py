"""Numbers of several runs become figures, and figures a table: no clock, no process, no database here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

Sample: TypeAlias = tuple[float, float]
"""(seconds since the beginning, bytes of resident memory)."""

MEGABYTE = 2**20


@dataclass(frozen=True)
class Figure:
    """A line of the table, in words.

    Attributes:
        met: whether the target is met; None where there is none.
        note: under which circumstances, and how far the single runs lie apart.
    """

    scenario: str
    name: str
    value: str
    target: str = ""
    met: bool | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """For the column beside the target."""
        return {True: "yes", False: "no", None: ""}[self.met]


def quantile(values: Sequence[float], share: float) -> float:
    """Linear between the two values around it, as percentile_cont of SQL.

    Raises:
        ValueError: there are no values, or the share is not between 0 and 1.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"quantile {share} of {len(values)} values; it needs one value and a share from 0 to 1")
    ordered = sorted(values)
    below, rest = divmod(share * (len(ordered) - 1), 1)
    low, high = ordered[int(below)], ordered[min(int(below) + 1, len(ordered) - 1)]
    return low + (high - low) * rest


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Pair by pair, as they were measured one after the other."""
    return [one / other for one, other in zip(above, below, strict=True)]


def spread(values: Sequence[float], form: str = ",.1f") -> str:
    """The least and the greatest of several runs; nothing for a single one."""
    return f"{len(values)} runs: {min(values):{form}} to {max(values):{form}}" if len(values) > 1 else ""


def figure(
    scenario: str,
    name: str,
    values: Sequence[float],
    unit: str = "",
    *,
    form: str = ",.1f",
    least: float | None = None,
    most: float | None = None,
    note: str = "",
) -> Figure:
    """The median of several runs beside its target; `least` and `most` are the bounds that it should keep."""
    middle = median(values)
    bounds = [f"{sign} {bound:{form}}" for sign, bound in (("≥", least), ("≤", most)) if bound is not None]
    met = (least is None or middle >= least) and (most is None or middle <= most) if bounds else None
    told = "; ".join(part for part in (note, spread(values, form)) if part)
    return Figure(scenario, name, f"{middle:{form}} {unit}".strip(), " ".join(bounds), met, told)


def peak_mb(samples: Sequence[Sample]) -> float:
    """The greatest resident memory."""
    return max((size for _, size in samples), default=0) / MEGABYTE


def growth_mb_per_minute(samples: Sequence[Sample]) -> float:
    """Slope of a straight line by least squares through the second half of the samples; 0 for fewer than two."""
    later = samples[len(samples) // 2 :]
    if len(later) < 2:
        return 0.0
    middle_s = sum(at for at, _ in later) / len(later)
    middle = sum(size for _, size in later) / len(later)
    width = sum((at - middle_s) ** 2 for at, _ in later)
    slope = sum((at - middle_s) * (size - middle) for at, size in later) / width if width else 0.0
    return slope * 60 / MEGABYTE


COLUMNS = ("scenario", "figure", "measured", "target", "met", "circumstances")


def rows(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """The cells of the table; a scenario is named once."""
    cells: list[tuple[str, ...]] = []
    before = ""
    for each in figures:
        named = "" if each.scenario == before else each.scenario
        cells.append((named, each.name, each.value, each.target, each.verdict, each.note))
        before = each.scenario
    return cells


def markdown(figures: Sequence[Figure]) -> str:
    """The table as Markdown."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows(figures)]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
