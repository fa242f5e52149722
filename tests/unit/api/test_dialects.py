"""Times in the dialects of CSV."""

from __future__ import annotations

import pytest

from telemetry.api.dialects import Dialect


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("2026-10-25T02:00:00+02:00", ["2026-10-25 02:00:00", "+02:00"]),
        ("2026-10-25T02:00:00.125000-03:30", ["2026-10-25 02:00:00,125000", "-03:30"]),
        # Monrovia, until 1972.
        ("1971-01-01T00:00:00-00:44:30", ["1971-01-01 00:00:00", "-00:44:30"]),
    ],
)
def test_excel_has_the_whole_offset_in_a_cell_of_its_own(text: str, cells: list[str]) -> None:
    assert Dialect(is_excel=True).instant(text) == cells
    assert Dialect(is_excel=True).local(text) == cells[0]
    assert Dialect().instant(text) == [text]
