"""Questions over HTTP: `make bench-query`, `make bench-query ARGS="--meters 100 --only overhead"`.

Database, service, broker and clients share the machine: read the ratios rather than the times. The full size, 43.2
million readings, takes 10 to 15 minutes to be made on each engine, and 10 GB of the folder for temporary files, or of
that of `--keep`. The exit code is 1 when an answer differs or a message is missing,
never because of a figure.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import asyncpg

from telemetry.errors import TelemetryError
from telemetry.settings import load_settings
from tests.benchmarks import export
from tests.benchmarks.city import City, city
from tests.benchmarks.crowd import crowd
from tests.benchmarks.figures import Figure, figure, markdown
from tests.benchmarks.ingest import show
from tests.benchmarks.latency import overhead, roll_ups
from tests.benchmarks.machine import describe_machine
from tests.benchmarks.newest import newest
from tests.benchmarks.past import Past
from tests.benchmarks.plan import Report
from tests.benchmarks.stand import Stand, stand

SCENARIOS: Final = ("overhead", "rollups", "crowd", "latest", "export")
OF_THE_PAST: Final = ("overhead", "rollups", "crowd")
PAGE: Final = Path(__file__).parents[2] / "docs" / "measured" / "query.md"
EXPORTS: Final = (("csv", "avg"), ("arrow", "avg"), ("csv", "time_avg"))
"""Rows as the database makes them, and rows that are merged from several statements."""
EXPORTED: Final = (1_000, 1_000)
"""Devices and minutes of an export: a million rows."""


def arguments() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(prog="make bench-query", description=__doc__)
    parser.add_argument("--only", default=",".join(SCENARIOS), help=f"scenarios, by commas, of {', '.join(SCENARIOS)}")
    parser.add_argument("--engine", choices=["timescaledb", "postgres"], action="append", default=[])
    parser.add_argument("--meters", type=int, default=1_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=10, help="length of each measurement")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="the past stays there, for a run of the same day")
    parser.add_argument("--write", action="store_true", help=f"write the table to {PAGE.relative_to(PAGE.parents[2])}")
    given = parser.parse_args()
    given.only = given.only.split(",")
    if unknown := sorted(set(given.only) - set(SCENARIOS)):
        parser.error(f"--only: no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return given


def measure(place: Stand, given: argparse.Namespace) -> list[Figure]:
    """The scenarios, engine by engine."""
    figures: list[Figure] = []
    for engine in place.engines:
        if set(given.only) & set(OF_THE_PAST):
            with city(place, engine, Past(given.meters, given.days)) as asked:
                figures += _of_the_past(place, asked, given)
        if "latest" in given.only:
            figures += newest(place, engine, given.seconds)
        if "export" in given.only:
            figures += exports(place, engine)
    return figures


def _of_the_past(place: Stand, asked: City, given: argparse.Namespace) -> list[Figure]:
    figures: list[Figure] = []
    if "overhead" in given.only:
        figures += overhead(asked, given.seconds)
    if "rollups" in given.only:
        figures += roll_ups(asked, given.seconds)
    if "crowd" in given.only:
        figures += crowd(asked, place.folder, given.seconds)
    return figures


def exports(place: Stand, engine: str) -> list[Figure]:
    """A million rows in some forms; see `tests.benchmarks.export`."""
    devices, minutes = EXPORTED
    with place.site(engine) as site:
        settings = load_settings(overrides={"database.url": site.url, "database.engine": engine})
        asyncio.run(export.fill(settings, devices, minutes))
        results = [(agg, export.measure(settings, form, minutes, agg)) for form, agg in EXPORTS]
    return [
        figure(
            f"export of {devices * minutes:,} rows, {engine}", f"RSS growth, {agg}, {each.form}",
            [each.growth_mb], "MB", most=50, note=f"{each.answer_mb:.0f} MB in {each.seconds:.1f} s",
        )
        for agg, each in results
    ]  # fmt: skip


def page(figures: list[Figure], circumstances: str, command: str, past: Past) -> str:
    """The document for the guides."""
    return (
        "# Questions, measured\n\n"
        f"{circumstances}.\n\n"
        f"Written by `{command}`: {past.meters:,} meters, {past.days} days, {past.rows:,} readings. Database,\n"
        "service, broker and clients share the machine: read the ratios rather than the times. Figures are medians;\n"
        "what is compared was measured by turns. The same SQL is what the service sends for the rows (one row of\n"
        "columns), or the same with a record for each row, by asyncpg on a kept connection, plans made anew or kept,\n"
        "whichever was faster.\n\n"
        f"{markdown(figures)}"
    )


def main() -> None:
    """Measures, prints and writes."""
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    try:
        with stand(given.engine, given.keep) as place:
            circumstances = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {describe_machine()}; {place.versions}"
            figures = measure(place, given)
    except KeyboardInterrupt:
        sys.exit("stopped")
    except (TelemetryError, RuntimeError, OSError, EOFError, asyncpg.PostgresError) as error:
        sys.exit(f"the benchmark could not go on: {error}")
    show(Report(figures), circumstances)
    if given.write:
        told = ["FOLDER" if each == str(given.keep) else each for each in sys.argv[1:]]
        command = f'make bench-query ARGS="{" ".join(told)}"'
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page(figures, circumstances, command, Past(given.meters, given.days)))
    if any(each.met is False for each in figures if each.target == "≤ 0"):
        sys.exit("an answer differs from that of the raw rows, or messages are missing")


if __name__ == "__main__":
    main()
