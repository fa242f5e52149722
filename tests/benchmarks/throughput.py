"""Full speed and half of it, on each engine.

From publish to visible is measured for every message: the publisher names the moment of sending as `time`, and the
server keeps the moment of each commit, so it is `pg_xact_commit_timestamp(xmin) - time` of each row, on the same clock,
on both engines. PostgreSQL takes that moment just before it flushes the commit to disk; the mean of such a flush is
told beside it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from statistics import median

import asyncpg

from tests.benchmarks.drive import UNBOUNDED, Run, drive
from tests.benchmarks.figures import figure, peak_mb, quantile
from tests.benchmarks.load import Load
from tests.benchmarks.plan import DEVICES, DOMAINS, Plan, Report
from tests.benchmarks.stand import Ingest, Site, Stand, running

_WAITED = """
    SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - time)::float8 * 1000
    FROM {domain}_readings WHERE received_at >= $1
"""
# As JSON, because newer servers keep it elsewhere: then it is NULL.
_FLUSH = """
    SELECT (to_jsonb(w)->>'wal_sync_time')::float8 / nullif((to_jsonb(w)->>'wal_sync')::float8, 0) FROM pg_stat_wal w
"""


def full_speed(stand: Stand, engine: str, messages: int, domains: tuple[str, ...], devices: int = DEVICES) -> Run:
    """One run at full speed, of devices that ingest has met before."""
    with stand.site(engine, devices, domains) as site, running(Ingest(site, stand.folder)) as subject:
        asyncio.run(drive(subject, Load(site.port, site.name, devices, devices, domains)))
        load = Load(site.port, site.name, messages, devices, domains)
        return asyncio.run(drive(subject, load, before=devices))


def throughput(stand: Stand, plan: Plan, report: Report) -> dict[str, float]:
    """Measures full speed; returns the rates that were reached."""
    runs: defaultdict[str, list[Run]] = defaultdict(list)
    rounds = 1 if plan.seconds else plan.rounds
    for _ in range(rounds):
        for engine in stand.engines:
            messages = plan.messages
            if plan.seconds:
                messages = int(full_speed(stand, engine, messages, DOMAINS).rate * plan.seconds)
            runs[engine].append(report.take(full_speed(stand, engine, messages, DOMAINS)))
    for engine, found in runs.items():
        name = f"full speed, {engine}"
        note = f"{found[0].messages:,} messages, {len(DOMAINS)} domains, {DEVICES:,} devices"
        add = report.figures.append
        add(figure(name, "messages/s", [run.rate for run in found], form=",.0f", least=80_000, note=note))
        add(figure(name, "CPU per message", [run.cpu_us for run in found], "µs", form=".2f", most=9))
        broker = [run.broker_us for run in found]
        ceiling = f"of its one thread, which can therefore carry {1e6 / median(broker):,.0f} messages/s here"
        add(figure(name, "CPU of the broker per message", broker, "µs", form=".2f", note=ceiling))
        add(figure(name, "peak RSS", [peak_mb(run.rss) for run in found], "MB", form=",.0f", most=250))
        add(figure(name, "missing", [run.missing for run in found], form=",.0f", most=0))
    return {engine: median([run.rate for run in found]) for engine, found in runs.items()}


def half_load(stand: Stand, plan: Plan, report: Report, rates: dict[str, float]) -> None:
    """Measures from publish to visible at half of the given rates."""
    for engine in stand.engines:
        rate = (rates.get(engine) or full_speed(stand, engine, plan.messages, DOMAINS).rate) / 2
        with stand.site(engine, DEVICES, DOMAINS) as site, running(Ingest(site, stand.folder)) as subject:
            asyncio.run(drive(subject, Load(site.port, site.name, DEVICES, DEVICES, DOMAINS)))
            load = Load(site.port, site.name, int(rate * plan.half_s), DEVICES, DOMAINS, rate, live=True)
            run = report.take(asyncio.run(drive(subject, load, before=DEVICES, window=UNBOUNDED)))
            waited, flush = asyncio.run(_waited(site, run))
        name, add = f"half load, {engine}", report.figures.append
        note = f"{rate:,.0f} messages/s for {plan.half_s:.0f} s; a flush of a commit takes {flush:.1f} ms more"
        add(figure(name, "publish to visible, p50", [quantile(waited, 0.5)], "ms", form=",.0f"))
        add(figure(name, "publish to visible, p99", [quantile(waited, 0.99)], "ms", form=",.0f", most=400, note=note))
        add(figure(name, "CPU per message", [run.cpu_us], "µs", form=".2f"))


async def _waited(site: Site, run: Run) -> tuple[list[float], float]:
    """How long each message of a run took, and the mean of a flush so far; in ms."""
    database = await asyncpg.connect(site.url)
    try:
        waited: list[float] = []
        for domain in DOMAINS:
            waited += [row[0] for row in await database.fetch(_WAITED.format(domain=domain), run.began)]
        return waited, await database.fetchval(_FLUSH) or float("nan")
    finally:
        await database.close()
