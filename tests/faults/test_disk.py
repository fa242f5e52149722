"""The disk under PostgreSQL is full: once for its tables, once for its write-ahead log, where it gives itself up."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from telemetry.demo.postgres import LocalPostgres
from telemetry.store.migrate import migrate
from tests.faults.publisher import Publisher
from tests.faults.scene import Scene, loaded
from tests.support.server import find_bindir, server_options, temporary_directory
from tests.support.sql import wait_for

RATE = 2_000.0
SIZE = "220m"
SMALL = {"max_wal_size": "48MB", "min_wal_size": "32MB", "wal_buffers": "1MB", "shared_buffers": "16MB"}


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A tmpfs of 220 MB; skips where this user may not mount one."""
    with temporary_directory() as directory:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(directory)], capture_output=True, text=True
        )
        if mounted.returncode != 0:
            pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
        directory.chmod(0o755)
        try:
            yield directory
        finally:
            subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.fixture
def small_server(small_disk: Path) -> Iterator[LocalPostgres]:
    """A PostgreSQL on it."""
    bindir, _ = find_bindir()
    server = LocalPostgres(small_disk / "pg", bindir, options=server_options(bindir) | SMALL)
    server.start()
    yield server
    server.stop("immediate")


@pytest.fixture
def small_scene(scene: Scene, small_server: LocalPostgres) -> Scene:
    """A case on that server, whose database is thrown away with the disk."""
    small_server.create_database("faults")
    database = scene.settings.database.model_copy(update={"url": SecretStr(small_server.url("faults"))})
    scene.settings = scene.settings.model_copy(update={"database": database})
    wait_for(lambda: migrate(scene.settings))
    return scene


@pytest.mark.asyncio
@pytest.mark.long
@pytest.mark.parametrize("what", ["tables", "write-ahead log"])
async def test_full_disk_under_the_database_delays_but_loses_nothing(
    small_scene: Scene, small_server: LocalPostgres, small_disk: Path, what: str
) -> None:
    ballast = small_disk / "ballast"
    async with small_scene.ingesting(), Publisher(small_scene.settings) as publisher:
        async with loaded(publisher, RATE):
            await small_scene.grown(1_000)
            fill(ballast)
            if what == "write-ahead log":
                await want_more_log(small_scene)
            await complains(small_scene, small_server)
            await asyncio.sleep(3)
            ballast.unlink()
            survived = small_server.running
            await asyncio.to_thread(small_server.start)
            await small_scene.grown(1_000)
        await small_scene.settled(publisher)
    note = "the server survived" if survived else "the server gave up and was started again"
    (await small_scene.account(f"disk full under PostgreSQL's {what}", publisher, note)).assert_kept()


def fill(ballast: Path) -> None:
    """Writes until nothing fits any more."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1_048_576, 4_096):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    assert shutil.disk_usage(ballast.parent).free < 64 * 1024


async def want_more_log(scene: Scene) -> None:
    """Makes the server begin files of its log, which it must have room for."""
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncio.TimeoutError):
        async with scene.database() as database, asyncio.timeout(20):
            for _ in range(10):
                await database.execute(
                    "SELECT pg_switch_wal(), pg_logical_emit_message(false, 'test', repeat('x', 9999))"
                )


async def complains(scene: Scene, server: LocalPostgres) -> None:
    """Waits until ingest has met the full disk."""
    async with asyncio.timeout(60):
        while "database_away" not in scene.log.read_text() and server.running:
            await asyncio.sleep(0.1)
    assert "No space left on device" in server.log.read_text()
