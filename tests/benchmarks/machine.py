"""What the figures were measured on, and how fast it was just then."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Final

from telemetry.demo.mosquitto import find_mosquitto

ROUNDS: Final = 2_000_000


def calibrate() -> float:
    """Seconds that a fixed loop of pure Python takes: two runs compare as far as this does."""
    began, total = time.perf_counter(), 0
    for number in range(ROUNDS):
        total += number & 7
    assert total
    return time.perf_counter() - began


def describe_machine() -> str:
    """Processor and memory."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {models[0] if models else platform.machine()}, {memory:.0f} GiB"


def mosquitto_version() -> str:
    """As the broker names it."""
    said = subprocess.run([find_mosquitto(), "-h"], capture_output=True, text=True, check=False).stdout
    return said.partition("\n")[0].removeprefix("mosquitto version ") or "unknown"


def describe_versions(database: str) -> str:
    """Python, broker, and what the database says of itself."""
    return f"Python {platform.python_version()}, Mosquitto {mosquitto_version()}, {database}"
