"""The memory of ingest while a backlog is drained, and while the database is away."""

from __future__ import annotations

import asyncio
import time

from tests.benchmarks.drive import UNBOUNDED, Publishing, missing, publish, settled
from tests.benchmarks.figures import Sample, figure, growth_mb_per_minute, peak_mb
from tests.benchmarks.load import Load
from tests.benchmarks.plan import DEVICES, DOMAINS, Plan, Report
from tests.benchmarks.stand import PATIENCE_S, Ingest, Stand, Subject, running

LIMIT_MB = 250
BEFORE_S = 3.0


def memory(stand: Stand, plan: Plan, report: Report) -> None:
    """Both scenarios, on the first engine."""
    backlog(stand, plan, report)
    outage(stand, plan, report)


def backlog(stand: Stand, plan: Plan, report: Report) -> None:
    """The broker holds messages of our session; ingest starts and drains them."""
    engine = stand.engines[0]
    with stand.site(engine, DEVICES, DOMAINS) as site:
        with running(Ingest(site, stand.folder)):
            pass
        asyncio.run(publish(Load(site.port, site.name, plan.backlog, DEVICES, DOMAINS)))
        began, subject = time.monotonic(), Ingest(site, stand.folder)
        try:
            samples = asyncio.run(_follow(subject, plan.backlog))
        finally:
            subject.stop()
        rate = plan.backlog / (time.monotonic() - began)
        report.missing += asyncio.run(missing(site, plan.backlog))
    note = f"{plan.backlog:,} messages drained at {rate:,.0f}/s, start included"
    _tell(report, f"backlog, {engine}", samples, note)


def outage(stand: Stand, plan: Plan, report: Report) -> None:
    """The database stops under load and comes back; the load goes on for as long as it was up before."""
    engine = stand.engines[0]
    messages = int(plan.outage_rate * (plan.outage_s + 2 * BEFORE_S))
    with stand.site(engine, DEVICES, DOMAINS) as site, running(Ingest(site, stand.folder)) as subject:
        load = Load(site.port, site.name, messages, DEVICES, DOMAINS, plan.outage_rate)
        away, after = asyncio.run(_interrupt(stand, subject, load, plan.outage_s))
        report.missing += asyncio.run(missing(site, messages))
    note = f"{plan.outage_s:.0f} s at {plan.outage_rate:,.0f} messages/s"
    _tell(report, f"database away, {engine}", away, note)
    _tell(report, f"database back, {engine}", after, f"until all {messages:,} messages were settled")


def _tell(report: Report, name: str, samples: list[Sample], note: str) -> None:
    report.figures.append(figure(name, "peak RSS", [peak_mb(samples)], "MB", form=",.0f", most=LIMIT_MB, note=note))
    slope, seconds = growth_mb_per_minute(samples), samples[-1][0] if samples else 0.0
    note = f"second half of {seconds:.0f} s; {slope * seconds / 120:+.1f} MB in it"
    report.figures.append(figure(name, "growth", [slope], "MB/min", form="+.1f", note=note))


async def _interrupt(stand: Stand, subject: Subject, load: Load, away_s: float) -> tuple[list[Sample], list[Sample]]:
    """Samples while the database was away, and afterwards."""
    publishing = await Publishing.start(load)
    try:
        publishing.allow(UNBOUNDED)
        await asyncio.sleep(BEFORE_S)
        await asyncio.to_thread(stand.postgres.stop, "fast")
        away = await _sample(subject, away_s)
        await asyncio.to_thread(stand.postgres.start)
        after = await _follow(subject, load.messages)
        await publishing.result()
        return away, after
    finally:
        await publishing.end()
        stand.postgres.start()


async def _sample(subject: Subject, seconds: float) -> list[Sample]:
    began, samples = time.monotonic(), list[Sample]()
    while (at := time.monotonic() - began) < seconds:
        subject.require_alive()
        samples.append((at, subject.rss()))
        await asyncio.sleep(0.1)
    return samples


async def _follow(subject: Subject, messages: int) -> list[Sample]:
    """Samples until so many messages are settled at its site, or nothing has moved for long."""
    began = moved = time.monotonic()
    samples, reached = list[Sample](), 0
    while reached < messages and time.monotonic() - moved < PATIENCE_S:
        subject.require_alive()
        samples.append((time.monotonic() - began, subject.rss()))
        await asyncio.sleep(0.1)
        if (count := await settled(subject.site)) > reached:
            reached, moved = count, time.monotonic()
    return samples
