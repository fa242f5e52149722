"""The accounts are balanced when nothing is missing, doubled or made up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from telemetry.demo.accounts import Accounts, Totals
from telemetry.demo.summary import DomainAccount, summarise

GOOD = DomainAccount(
    published=10, received=10, stored=9, merged=0, duplicate=1, quarantined=0, imbalance=0, rows=9, series=49
)


def test_account_in_which_everything_arrived_is_balanced() -> None:
    assert GOOD.is_balanced


def test_account_with_readings_of_others_is_balanced() -> None:
    assert replace(GOOD, received=12, stored=10, quarantined=1, rows=10).is_balanced


@pytest.mark.parametrize(
    "account",
    [
        replace(GOOD, received=9, stored=8, rows=8),
        replace(GOOD, imbalance=1),
        replace(GOOD, rows=8),
        replace(GOOD, rows=10),
    ],
    ids=["lost on the way", "lost in ingest", "lost in the table", "doubled in the table"],
)
def test_account_in_which_something_is_wrong_is_not_balanced(account: DomainAccount) -> None:
    assert not account.is_balanced


def test_account_with_a_merged_reading_is_balanced_without_a_new_row() -> None:
    assert replace(GOOD, merged=1, rows=8).is_balanced


def test_summary_counts_from_the_start_of_the_run() -> None:
    before = Accounts({"waste": Totals(100, 100)}, {"waste": 100})
    after = Accounts({"waste": Totals(130, 128, 0, 2)}, {"waste": 128})
    summary = summarise({"waste": 30}, before, after, {"waste": 49}, 12.0)
    assert summary.is_balanced
    assert summary.is_complete
    facts = summary.facts()
    assert (facts["published"], facts["received"], facts["stored"], facts["duplicate"]) == (30, 30, 28, 2)
    assert facts["series"] == {"waste": 49}


def test_summary_without_a_series_is_not_complete() -> None:
    after = Accounts({"waste": Totals(3, 3)}, {"waste": 3})
    summary = summarise({"waste": 3}, Accounts({}, {}), after, {"waste": 0, "energy": 1}, 1.0)
    assert summary.is_balanced
    assert not summary.is_complete
    assert "energy, waste" in summary.verdict()
