"""The table at the end of a run: every case with its account."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from telemetry.demo.mosquitto import find_mosquitto
from tests.faults.account import Account
from tests.support.processes import Process, hand_over, handed_over
from tests.support.server import ServerUnderTest

FILE_VARIABLE = "TELEMETRY_TEST_FAULTS_REPORT"
"""Names the file that the table is written to as Markdown."""

_COUNTS = ("published", "acked", "stored", "duplicate", "quarantined", "lost", "doubled")
_HEADER = ("case", "engine", *_COUNTS, "s", "the fault")


class FaultReport:
    """Collects the accounts of a session; shows them at its end."""

    def __init__(self) -> None:
        self.accounts: list[Account] = []
        self.server: ServerUnderTest | None = None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hands the accounts of a process over to the one that reports."""
        hand_over(session.config, "accounts", [asdict(account) | {"ledger": {}} for account in self.accounts])

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Process) -> None:
        """Takes over the accounts of a process."""
        self.accounts += [Account(**account) for account in handed_over(node, "accounts") or []]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Writes the table, and the file where one is named."""
        if not self.accounts:
            return
        terminalreporter.section("messages under faults")
        for line in self.lines():
            terminalreporter.write_line(line)
        if name := os.environ.get(FILE_VARIABLE):
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.markdown())
            terminalreporter.write_line(f"written to {path}")

    def lines(self) -> list[str]:
        """The table for a terminal."""
        table = [_HEADER, *map(_cells, self._sorted())]
        widths = [max(len(row[column]) for row in table) for column in range(len(_HEADER))]
        return ["  ".join(map(_aligned, row, widths, range(len(row)))).rstrip() for row in table]

    def markdown(self) -> str:
        """The table for the guide, under a line that names machine and versions."""
        rule = "|".join(["---", "---", *["---:"] * (len(_COUNTS) + 1), "---"])
        rows = [_HEADER, *map(_cells, self._sorted())]
        head, *body = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([self._where(), "", head, f"|{rule}|", *body, ""])

    def _sorted(self) -> list[Account]:
        return sorted(self.accounts, key=lambda account: (account.case, account.engine))

    def _where(self) -> str:
        memory = psutil.virtual_memory().total / 2**30
        machine = f"{os.cpu_count()} × {_processor()}, {memory:.0f} GiB, Linux {platform.release().split('-')[0]}"
        server = self.server.description if self.server is not None else "PostgreSQL"
        programs = f"{server}; Mosquitto {_mosquitto()}; Python {platform.python_version()}"
        return f"`make faults` of {datetime.now(UTC):%Y-%m-%d}: {machine}; {programs}."


def _cells(account: Account) -> tuple[str, ...]:
    counts = [f"{getattr(account, name):,}" for name in _COUNTS]
    return (account.case, account.engine, *counts, f"{account.seconds:.0f}", account.note)


def _aligned(text: str, width: int, column: int) -> str:
    return text.rjust(width) if 2 <= column < len(_HEADER) - 1 else text.ljust(width)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _mosquitto() -> str:
    said = subprocess.run([find_mosquitto(), "-h"], capture_output=True, text=True, check=False).stdout
    return said.split()[2] if said.startswith("mosquitto version") else "of unknown version"
