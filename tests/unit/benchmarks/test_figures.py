from __future__ import annotations

import pytest

from tests.benchmarks.figures import (
    MEGABYTE,
    Figure,
    figure,
    growth_mb_per_minute,
    markdown,
    peak_mb,
    quantile,
    ratios,
    rows,
    spread,
)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([4.0, 1.0, 3.0, 2.0], 0.5, 2.5),
        ([1.0, 2.0, 3.0], 0, 1.0),
        ([1.0, 2.0, 3.0], 1, 3.0),
        ([7.0], 0.99, 7.0),
        ([float(n) for n in range(101)], 0.99, 99.0),
    ],
)
def test_quantile_lies_between_neighbours(values: list[float], share: float, expected: float) -> None:
    assert quantile(values, share) == pytest.approx(expected)


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_quantile_of_nothing_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="quantile"):
        quantile(values, share)


def test_ratios_are_taken_pair_by_pair() -> None:
    assert ratios([90.0, 40.0], [9.0, 8.0]) == [10.0, 5.0]


def test_ratios_of_unequal_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_figure_is_the_median_beside_its_bound() -> None:
    found = figure("full speed", "CPU", [9.0, 7.0, 30.0], "µs", most=9)
    assert (found.value, found.target, found.verdict) == ("9.0 µs", "≤ 9.0", "yes")
    assert found.note == "3 runs: 7.0 to 30.0"


@pytest.mark.parametrize(
    ("value", "least", "most", "verdict"),
    [(10.0, 10.0, None, "yes"), (9.9, 10.0, None, "no"), (1.2, None, 1.15, "no"), (1.2, None, None, "")],
)
def test_figure_beyond_its_bound_is_told(value: float, least: float | None, most: float | None, verdict: str) -> None:
    assert figure("s", "f", [value], least=least, most=most).verdict == verdict


def test_spread_of_a_single_run_is_silent() -> None:
    assert spread([1.0]) == ""


def test_growth_follows_the_second_half() -> None:
    samples = [(float(second), (100 + (second if second > 50 else 500)) * MEGABYTE) for second in range(1, 101)]
    assert growth_mb_per_minute([(at, float(size)) for at, size in samples]) == pytest.approx(60.0)
    assert peak_mb([(at, float(size)) for at, size in samples]) == 600


@pytest.mark.parametrize("samples", [[], [(0.0, 1.0)], [(1.0, 5.0), (1.0, 9.0), (1.0, 7.0)]])
def test_growth_without_duration_is_none(samples: list[tuple[float, float]]) -> None:
    assert growth_mb_per_minute(samples) == 0.0


def test_rows_name_a_scenario_once() -> None:
    found = [Figure("a", "x", "1"), Figure("a", "y", "2"), Figure("b", "x", "3")]
    assert [line[0] for line in rows(found)] == ["a", "", "b"]


def test_markdown_keeps_bars_inside_cells() -> None:
    lines = markdown([Figure("a", "x|y", "1", "≤ 2", True)]).splitlines()
    assert lines[1].count("---") == 6
    assert lines[2] == "| a | x\\|y | 1 | ≤ 2 | yes |  |"
