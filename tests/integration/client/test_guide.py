"""docs/client.md: its examples run as they stand, and it names every method and every error."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from telemetry.client import errors, questions
from tests.integration.api.test_formats import NOON
from tests.integration.query.rows import City, Row

GUIDE = (Path(__file__).parents[3] / "docs" / "client.md").read_text()
ADDRESS = "http://localhost:8000"
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def test_every_method_and_every_error_is_named() -> None:
    assert [name for name in questions.__all__ if not re.search(rf"\b{name}\(", GUIDE)] == []
    kinds = [name for name, kind in vars(errors).items() if isinstance(kind, type) and name.isidentifier()]
    own = [name for name in kinds if issubclass(getattr(errors, name), errors.ClientError)]
    assert len(own) == 15
    assert [name for name in own if f"`{name}`" not in GUIDE] == []


@pytest.mark.asyncio
async def test_examples_of_the_guide_run(address: str, city: City, tmp_path: Path) -> None:
    await city.add(
        Row(NOON + timedelta(minutes=minute), device, {"power_w": 40.0, "lamp_on": True, "energy_kwh": minute / 10})
        for device in city.devices
        for minute in range(0, 180, 15)
    )
    assert len(EXAMPLES) >= 7
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
    assert [text for text in outputs if "lamp-3" not in text] == []
    assert pl.read_parquet(tmp_path / "power.parquet")["samples"].sum() == 48
    assert (tmp_path / "readings.csv").read_text("utf-8-sig").count("lamp-") == 48
