"""docs/client.md: its examples run as they stand, and it names every method and every error."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from telemetry.client import errors, questions
from tests.integration.query.rows import City, Row

GUIDE = (Path(__file__).parents[3] / "docs" / "client.md").read_text()
ADDRESS = "http://localhost:8000"
SHOWN = ("South", "lamp-3", "lamp-3", "power.parquet", "lamp-3", "power_w", "South")
"""What the example must print, each in turn: something that only data gives."""
QUARTER = timedelta(minutes=15)
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def test_every_method_and_every_error_is_named() -> None:
    assert [name for name in questions.__all__ if not re.search(rf"\b{name}\(", GUIDE)] == []
    kinds = [name for name, kind in vars(errors).items() if isinstance(kind, type) and name.isidentifier()]
    own = [name for name in kinds if issubclass(getattr(errors, name), errors.ClientError)]
    assert len(own) == 14
    assert [name for name in own if f"`{name}`" not in GUIDE] == []


@pytest.mark.asyncio
async def test_examples_of_the_guide_run(address: str, city: City, tmp_path: Path) -> None:
    # In the middle of each quarter before now, so that some minutes of running change no count.
    last = datetime.now(UTC) - QUARTER / 2
    await city.add(
        Row(last - QUARTER * number, device, {"power_w": 40.0, "lamp_on": True, "energy_kwh": (200 - number) / 10})
        for device in city.devices
        for number in range(200)
    )
    assert len(EXAMPLES) == len(SHOWN)
    shown = f"{'#' * 20}\n"
    program = f"print({shown!r})\n".join(EXAMPLES).replace(ADDRESS, address)
    run = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    outputs = run.stdout.split(shown)
    assert len(outputs) == len(EXAMPLES)
    assert [text for text, shown in zip(outputs, SHOWN, strict=True) if shown not in text] == []
    assert pl.read_parquet(tmp_path / "power.parquet")["samples"].sum() == 4 * 24 * 4
    assert (tmp_path / "readings.csv").read_text("utf-8-sig").count("lamp-") == 4 * 4
