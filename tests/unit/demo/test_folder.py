"""A demo's folder: made, writable, and for one demo at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from telemetry.demo.folder import DemoFolder
from telemetry.errors import ConfigurationError


def test_folder_is_made_with_its_logs(tmp_path: Path) -> None:
    folder = DemoFolder(tmp_path / "a" / "b")
    with folder.locked():
        assert folder.log("ingest").parent.is_dir()


def test_folder_in_use_names_the_other_demo(tmp_path: Path) -> None:
    with (
        DemoFolder(tmp_path).locked(),
        pytest.raises(ConfigurationError, match=r"another demo \(process \d+\).*--data-dir"),
        DemoFolder(tmp_path).locked(),
    ):
        pass


def test_folder_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with DemoFolder(tmp_path).locked():
            pass


def test_folder_that_cannot_be_made_names_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigurationError, match=r"cannot be written.*--data-dir"),
        DemoFolder(tmp_path / "file" / "demo").locked(),
    ):
        pass
