"""The CSV of devices, brought in: also one of more devices than are registered at once."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from telemetry.store import device_list
from telemetry.store.device_list import BadRow, import_devices


@pytest.mark.asyncio
async def test_list_is_brought_in_some_at_a_time(
    connection: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_list, "_AT_ONCE", 3)
    path = tmp_path / "devices.csv"
    ids = [f"bin-{number}" for number in range(8)]
    path.write_text("id,domain\n" + "".join(f"{each},waste\n" for each in ids) + "bin-9,water\n", encoding="utf-8")
    read: list[int] = []
    for added in (8, 0):
        done = await import_devices(connection, path, {"waste"}, read.append)
        assert (done.added, done.known) == (added, 8 - added)
        assert [type(row) for row in done.refused] == [BadRow]
        assert done.refused[0].line == 10
    assert read[-1] == path.stat().st_size
    rows = await connection.fetch("SELECT device_id FROM devices ORDER BY device_id")
    assert [row["device_id"] for row in rows] == ids
