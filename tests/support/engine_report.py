"""The line at the end of a session that says on which engines it ran, so that a skipped one is not overlooked."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import astuple

import pytest

from tests.support.processes import Process, hand_over, handed_over
from tests.support.server import ServerUnderTest

ENGINES = ("postgres", "timescaledb")
_SERVER = pytest.StashKey[ServerUnderTest]()
_ORDER = ("passed", "failed", "skipped", "xfailed")


def remember_server(config: pytest.Config, server: ServerUnderTest) -> None:
    """Tells the report which server the session runs against."""
    config.stash[_SERVER] = server


class EngineReport:
    """Counts the outcomes of the tests that run once per engine."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._engine_of: dict[str, str] = {}
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Notes which test runs on which engine."""
        for item in session.items:
            parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
            if (engine := parameters.get("engine")) in ENGINES:
                self._engine_of[item.nodeid] = engine

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Counts a test when its outcome is known."""
        engine = self._engine_of.get(report.nodeid)
        if engine is not None and (report.when == "call" or report.outcome != "passed"):
            outcome = "xfailed" if hasattr(report, "wasxfail") else report.outcome
            self._counts[engine][outcome] += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hands the counts of a process over to the one that reports."""
        server = self._config.stash.get(_SERVER, None)
        counts = {engine: dict(counts) for engine, counts in self._counts.items()}
        hand_over(session.config, "engines", [counts, server and astuple(server)])

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Process) -> None:
        """Takes over the counts of a process."""
        counts, server = handed_over(node, "engines") or ({}, None)
        for engine, outcomes in counts.items():
            self._counts[engine].update(outcomes)
        if server:
            remember_server(self._config, ServerUnderTest(*server))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Writes the line."""
        if self._counts:
            skipped = any(counts["skipped"] for counts in self._counts.values())
            terminalreporter.write_line(self.line(), yellow=skipped, bold=True)

    def line(self) -> str:
        """E.g. `engines: postgres 41 passed · timescaledb 41 passed (TimescaleDB 2.28.3 on PostgreSQL 15.18, …)`."""
        server = self._config.stash.get(_SERVER, None)
        counted = " · ".join(f"{engine} {_text(self._counts[engine])}" for engine in ENGINES if engine in self._counts)
        if server is None:
            return f"engines: {counted}"
        missing = server.timescaledb is None and self._counts["timescaledb"]["skipped"]
        reason = f": the server under test ({server.description}) does not offer the extension"
        return f"engines: {counted}" + (reason if missing else f" ({server.description})")


def _text(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in _ORDER if counts[outcome])
