"""Finding the broker's program."""

from __future__ import annotations

from pathlib import Path

import pytest

from telemetry.demo import mosquitto
from telemetry.errors import ConfigurationError


def test_machine_without_mosquitto_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mosquitto, "BESIDE_PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="apt-get install mosquitto"):
        mosquitto.find_mosquitto()


def test_mosquitto_beside_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mosquitto"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(mosquitto, "BESIDE_PATH", str(tmp_path))
    assert mosquitto.find_mosquitto() == program
