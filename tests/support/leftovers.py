"""A session must leave no process behind: whatever the fixtures started has ended when the last test has."""

from __future__ import annotations

import psutil
import pytest

from tests.support.processes import Process, hand_over, handed_over


class Leftovers:
    """Looks for living children at the end; there, they fail the session and are ended."""

    def __init__(self, grace_s: float = 60.0) -> None:
        self._grace_s = grace_s
        self._found: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fails a session that would otherwise have passed."""
        self._found += end_children(self._grace_s)
        hand_over(session.config, "leftovers", self._found)
        if self._found and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Process) -> None:
        """Takes over what a process has found."""
        self._found += handed_over(node, "leftovers") or []

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Names them."""
        for command in self._found:
            terminalreporter.write_line(f"left behind by a fixture, and ended now: {command}", red=True)


def end_children(grace_s: float) -> list[str]:
    """Ends every child of this process that does not end by itself in time; returns their command lines."""
    _, alive = psutil.wait_procs(psutil.Process().children(recursive=True), timeout=grace_s)
    found = []
    for process in alive:
        try:
            found.append(f"{process.pid} {' '.join(process.cmdline())}")
            process.kill()
        except psutil.NoSuchProcess:
            continue
    return found
