from __future__ import annotations

from datetime import UTC, datetime

from tests.benchmarks.drive import Run
from tests.benchmarks.plan import Report


def run(missing: int) -> Run:
    """A run that lost so many messages."""
    return Run(100, missing, 1_000.0, 9.0, 20.0, [], 0.1, datetime(2026, 11, 25, tzinfo=UTC))


def test_report_adds_up_what_is_missing() -> None:
    report = Report()
    for lost in (0, 2, 3):
        report.take(run(lost))
    report.close()
    assert report.missing == 5
    assert [each.verdict for each in report.figures] == ["no", ""]


def test_report_without_runs_has_no_calibration() -> None:
    report = Report()
    report.close()
    assert [(each.name, each.verdict) for each in report.figures] == [("missing or unbalanced", "yes")]
