"""Tests that are spread over several processes by pytest-xdist: what each of them has to say at its end."""

from __future__ import annotations

from typing import Any, Protocol

import pytest


class Process(Protocol):
    """One of the processes, as the reporting one sees it when it has ended.

    Attributes:
        workeroutput: what it has handed over, by name; simple types only.
    """

    workeroutput: dict[str, Any]


def hand_over(config: pytest.Config, name: str, value: object) -> None:
    """Hands something over to the reporting process; where there is only one, it has it already."""
    if hasattr(config, "workeroutput"):
        config.workeroutput[name] = value


def handed_over(process: Process, name: str) -> Any:
    """What a process has handed over under that name; None where it died before."""
    return getattr(process, "workeroutput", {}).get(name)
