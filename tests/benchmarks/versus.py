"""Pairs of runs, one right after the other: against the baseline, and against more devices or more domains.

The speed of a shared machine changes from minute to minute, so only the ratio within a pair counts, and of the pairs
the median.
"""

from __future__ import annotations

import asyncio
from typing import Final, TypeAlias

from tests.benchmarks.drive import Run, drive
from tests.benchmarks.figures import figure, ratios
from tests.benchmarks.load import Load
from tests.benchmarks.plan import DEVICES, DOMAINS, Plan, Report
from tests.benchmarks.stand import Baseline, Stand, running
from tests.benchmarks.throughput import full_speed

BASELINE_MESSAGES: Final = 30_000
BASELINE_WINDOW: Final = 10_000
"""Messages that may wait for the baseline, which reads on while its database is busy: enough to be never idle."""
FEW, MANY = 1_000, 200_000

Sample: TypeAlias = tuple[tuple[str, ...], int]
"""Domains and number of devices."""


def baseline(stand: Stand, plan: Plan, report: Report) -> None:
    """The same load for both: lighting only, each as fast as it can."""
    engine = stand.engines[0]
    ours, theirs = [], []
    for _ in range(plan.rounds):
        ours.append(report.take(full_speed(stand, engine, plan.messages, ("lighting",))))
        theirs.append(report.take(_baseline_run(stand, engine)))
    name = f"baseline, {engine}"
    costs = [[run.cpu_us for run in runs] for runs in (theirs, ours)]
    rates = [[run.rate for run in runs] for runs in (ours, theirs)]
    note = "aiomqtt, Pydantic, asyncpg.executemany by 1,000"
    add = report.figures.append
    add(figure(name, "CPU per message, baseline", costs[0], "µs", note=note))
    add(figure(name, "CPU per message, ours", costs[1], "µs", form=".2f", note="one domain, both at full speed"))
    add(figure(name, "times cheaper", ratios(*costs), form=".1f", least=10, note="by pairs"))
    add(figure(name, "messages/s, baseline", rates[1], form=",.0f"))
    add(figure(name, "messages/s, ours", rates[0], form=",.0f"))
    add(figure(name, "times faster", ratios(*rates), form=".1f", note="by pairs"))


def _baseline_run(stand: Stand, engine: str) -> Run:
    with stand.site(engine, DEVICES) as site, running(Baseline(site, stand.folder)) as subject:
        warm = Load(site.port, site.name, DEVICES, DEVICES, ("lighting",))
        asyncio.run(drive(subject, warm, window=BASELINE_WINDOW))
        load = Load(site.port, site.name, BASELINE_MESSAGES, DEVICES, ("lighting",))
        return asyncio.run(drive(subject, load, before=DEVICES, window=BASELINE_WINDOW))


def scaling(stand: Stand, plan: Plan, report: Report) -> None:
    """What more devices and more domains cost. The one domain is each of the four in turn, for their costs differ."""
    engine = stand.engines[0]
    few: Sample = ("lighting",), FEW
    many: Sample = ("lighting",), MANY
    kinds: dict[str, list[tuple[Sample, Sample]]] = {
        f"{MANY:,} devices over {FEW:,}": [(few, many)] * plan.rounds,
        "four domains over one": [(((domain,), DEVICES), (DOMAINS, DEVICES)) for domain in DOMAINS],
    }
    for title, pairs in kinds.items():
        less, more = [], []
        for small, large in pairs:
            less.append(report.take(full_speed(stand, engine, plan.messages, *small)).cpu_us)
            more.append(report.take(full_speed(stand, engine, plan.messages, *large)).cpu_us)
        costs = f"CPU µs: {', '.join(f'{a:.2f} → {b:.2f}' for a, b in zip(less, more, strict=True))}"
        report.figures.append(
            figure(f"scaling, {engine}", title, ratios(more, less), "×", form=".2f", most=1.15, note=costs)
        )
