"""Ingest from broker to committed row: `make bench-ingest`, `make bench-ingest ARGS="--only throughput --seconds 60"`.

Broker, publisher, database and ingest share the machine, so read the CPU per message and the ratios, not the absolute
rates, and look at the calibration before you compare two tables. The database is durable: fsync and synchronous_commit
are on. The exit code is 1 when a message is missing or the ledger does not balance, never because of a figure.
"""

from __future__ import annotations

import argparse
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import asyncpg
from rich.console import Console
from rich.table import Table

from telemetry.errors import TelemetryError
from tests.benchmarks.figures import COLUMNS, markdown, rows
from tests.benchmarks.machine import describe_machine
from tests.benchmarks.memory import memory
from tests.benchmarks.plan import Plan, Report
from tests.benchmarks.stand import Stand, stand
from tests.benchmarks.throughput import half_load, throughput
from tests.benchmarks.versus import baseline, scaling

SCENARIOS: Final = ("throughput", "half", "baseline", "memory", "scaling")
PAGE: Final = Path(__file__).parents[2] / "docs" / "measured" / "ingest.md"


def arguments() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(prog="make bench-ingest", description=__doc__)
    parser.add_argument("--only", default=",".join(SCENARIOS), help=f"scenarios, by commas, of {', '.join(SCENARIOS)}")
    parser.add_argument("--engine", choices=["timescaledb", "postgres"], action="append", default=[])
    parser.add_argument("--messages", type=int, default=200_000, help="of one run at full speed")
    parser.add_argument(
        "--seconds", type=float, default=0, help="throughput: one sustained run of about so long instead"
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind, interleaved")
    parser.add_argument("--half-seconds", type=float, default=8, help="length of a run at half load")
    parser.add_argument("--backlog", type=int, default=300_000, help="messages that wait at the broker")
    parser.add_argument("--outage", type=float, default=15, help="seconds without the database")
    parser.add_argument("--outage-rate", type=float, default=5_000, help="messages per second meanwhile")
    parser.add_argument("--write", action="store_true", help=f"write the table to {PAGE.relative_to(PAGE.parents[2])}")
    given = parser.parse_args()
    given.only = given.only.split(",")
    if unknown := sorted(set(given.only) - set(SCENARIOS)):
        parser.error(f"--only: no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return given


def measure(place: Stand, only: list[str], plan: Plan) -> Report:
    """The scenarios, one after the other."""
    report = Report()
    rates = throughput(place, plan, report) if "throughput" in only else {}
    if "half" in only:
        half_load(place, plan, report, rates)
    for name, scenario in (("baseline", baseline), ("memory", memory), ("scaling", scaling)):
        if name in only:
            scenario(place, plan, report)
    report.close()
    return report


def show(report: Report, circumstances: str) -> None:
    """The table for people."""
    table = Table(title=circumstances, box=None)
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in ("measured", "target") else "left")
    for line in rows(report.figures):
        table.add_row(*line)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def page(report: Report, circumstances: str, command: str) -> str:
    """The document for the guides."""
    return (
        "# Ingest, measured\n\n"
        f"{circumstances}.\n\n"
        f"Written by `{command}`. Broker, publisher, database and ingest share the machine: read the CPU per message\n"
        "and the ratios rather than the rates. Where there were several runs, the figure is their median.\n\n"
        f"{markdown(report.figures)}"
    )


def main() -> None:
    """Measures, prints and writes."""
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    plan = Plan(
        messages=given.messages,
        seconds=given.seconds,
        rounds=given.rounds,
        half_s=given.half_seconds,
        backlog=given.backlog,
        outage_s=given.outage,
        outage_rate=given.outage_rate,
    )
    try:
        with stand(given.engine) as place:
            circumstances = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {describe_machine()}; {place.versions}"
            report = measure(place, given.only, plan)
    except KeyboardInterrupt:
        sys.exit("stopped")
    except (TelemetryError, RuntimeError, OSError, asyncpg.PostgresError) as error:
        sys.exit(f"the benchmark could not go on: {error}")
    show(report, circumstances)
    if given.write:
        handed = " ".join(sys.argv[1:])
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page(report, circumstances, f'make bench-ingest ARGS="{handed}"'))
    if report.missing:
        sys.exit("messages are missing, or the ledger does not balance")


if __name__ == "__main__":
    main()
