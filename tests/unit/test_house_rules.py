"""Rules of the house that no tool keeps for us.

Packages are installed from wherever pip, uv or apt of the machine is configured to look, a mirror for instance. A host
written into a file bypasses that silently and makes the build depend on one network; so no file names one. `uv.lock`
records the host of every package, therefore the dependencies are locked by hash in requirements files.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Written in parts, for this file is searched as well.
HOSTS = re.compile(
    "|".join(
        re.escape(name) + r"\." + re.escape(domain)
        for name, domain in [
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("npmjs", "org"),
            ("npmjs", "com"),
            ("yarnpkg", "com"),
            ("deb.debian", "org"),
            ("security.debian", "org"),
            ("proxy.golang", "org"),
        ]
    )
)


def tracked_files() -> list[Path]:
    """Files of the repository that exist in the working tree."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def registry_hosts(path: Path) -> list[str]:
    """Lines of a text file that name the host of a package registry; a binary file has none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []
    return [f"{path.name}:{number}: {line.strip()}" for number, line in enumerate(lines, 1) if HOSTS.search(line)]


def without_docstring(path: Path) -> bool:
    """Whether a module that has any content does not say what it is."""
    text = path.read_text(encoding="utf-8")
    return bool(text.strip()) and ast.get_docstring(ast.parse(text)) is None


def test_files_name_no_registry() -> None:
    assert [line for path in tracked_files() for line in registry_hosts(path)] == []


@pytest.mark.parametrize("address", ["https://" + "pypi" + ".org/simple", "http://" + "deb.debian" + ".org/debian"])
def test_registry_in_a_file_is_found(tmp_path: Path, address: str) -> None:
    (tmp_path / "notes.txt").write_text(f"one\nsee {address}\n")
    assert registry_hosts(tmp_path / "notes.txt") == [f"notes.txt:2: see {address}"]


def test_dependencies_are_locked_in_requirements_only() -> None:
    assert [path for path in tracked_files() if path.name == "uv.lock"] == []
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / name).read_text(encoding="utf-8")
        locked = re.findall(r"^[a-z0-9.-]+(?:\[[^\]]*\])?==\S+", text, re.MULTILINE)
        assert len(locked) > 20
        assert len(re.findall(r"^[a-z0-9.-]+(?:\[[^\]]*\])?==.*\\\n +--hash=sha256:", text, re.MULTILINE)) == len(
            locked
        )


def test_files_have_plain_names() -> None:
    """What a shell wrote by mistake is named otherwise, and cannot be checked out everywhere."""
    names = [path.relative_to(ROOT).as_posix() for path in tracked_files()]
    assert [name for name in names if not re.fullmatch(r"[A-Za-z0-9._/-]+", name)] == []


def test_nothing_runs_between_fork_and_exec() -> None:
    """The supervisor of ingest did so, and shows metrics from threads; a lock of theirs would have stayed locked."""
    sources = [path for path in tracked_files() if path.suffix == ".py" and "tests" not in path.parts]
    assert [path.name for path in sources if "preexec_" + "fn" in path.read_text(encoding="utf-8")] == []


def test_modules_say_what_they_are() -> None:
    assert [path for path in sorted((ROOT / "src").rglob("*.py")) if without_docstring(path)] == []


def test_module_without_docstring_is_found(tmp_path: Path) -> None:
    (tmp_path / "silent.py").write_text("x = 1\n")
    assert without_docstring(tmp_path / "silent.py")
