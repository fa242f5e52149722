"""The two checks at the end of a session, each in a small session of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


PROCESSES = pytest.mark.parametrize("processes", ["0", "2"])


def run_session(folder: Path, processes: str, conftest: str, tests: str) -> tuple[int, str]:
    """Exit code and output of pytest in a folder with these two files."""
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\n")
    (folder / "conftest.py").write_text(textwrap.dedent(conftest))
    (folder / "test_it.py").write_text(textwrap.dedent(tests))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "xdist", "-n", processes]
    # Where it is not told, a session closes the folder that holds those of all sessions to other system users, that of
    # the PostgreSQL of another test included.
    command += ["--basetemp", str(folder / "its")]
    alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    finished = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=False)
    return finished.returncode, finished.stdout


@PROCESSES
def test_session_that_leaves_a_process_behind_fails_and_names_it(tmp_path: Path, processes: str) -> None:
    code, output = run_session(
        tmp_path,
        processes,
        """
        from tests.support.leftovers import Leftovers

        def pytest_configure(config):
            config.pluginmanager.register(Leftovers(grace_s=0.1))
        """,
        """
        import subprocess

        LEFT = []

        def test_starts_something():
            LEFT.append(subprocess.Popen(["sleep", "77"]))
        """,
    )
    assert code == 1
    assert "1 passed" in output
    assert "sleep 77" in output


REPORTING = """
    import pytest
    from tests.support.engine_report import EngineReport, remember_server
    from tests.support.server import ServerUnderTest

    SERVER = ServerUnderTest("postgresql://localhost/postgres", "embedded", "18.0", {timescaledb!r})

    def pytest_configure(config):
        remember_server(config, SERVER)
        config.pluginmanager.register(EngineReport(config))

    @pytest.fixture(params=["postgres", "timescaledb"])
    def engine(request):
        if request.param == "timescaledb" and SERVER.timescaledb is None:
            pytest.skip("not offered")
        return request.param
"""
TESTS = """
    import pytest

    def test_passes(engine):
        pass

    def test_passes_on_one_engine(engine):
        assert engine == "postgres"

    def test_knows_no_engine():
        pass
"""


@PROCESSES
def test_report_counts_the_outcomes_of_each_engine(tmp_path: Path, processes: str) -> None:
    _, output = run_session(tmp_path, processes, REPORTING.format(timescaledb="2.28.3"), TESTS)
    assert (
        "engines: postgres 2 passed · timescaledb 1 passed, 1 failed (TimescaleDB 2.28.3 on PostgreSQL 18.0, embedded)"
        in output
    )


def test_report_says_why_an_engine_was_skipped(tmp_path: Path) -> None:
    _, output = run_session(tmp_path, "0", REPORTING.format(timescaledb=None), TESTS)
    assert (
        "engines: postgres 2 passed · timescaledb 2 skipped: "
        "the server under test (PostgreSQL 18.0, embedded) does not offer the extension" in output
    )
