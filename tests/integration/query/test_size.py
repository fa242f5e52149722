"""Answers that may be read part by part, at their limits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from telemetry.domains import load_domains
from telemetry.errors import TooLarge
from telemetry.query.answering import Streaming, answer
from telemetry.query.database import snapshot
from telemetry.query.question import Asked, understand
from telemetry.store.devices import Device
from tests.integration.query.rows import City, Row

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
GUEST = Device("meter-1", "energy")
LAMP = Device("lamp-1", "lighting")


async def rows(connection: asyncpg.Connection, limits: tuple[int, int], **asked: Any) -> int:
    """The rows of eight quarters of an hour, where an answer and a stream may have so many values."""
    form: dict[str, Any] = {"metric": ["power_w"], "agg": ["avg"], "window": "15m", "by": "device"}
    form |= {"start": NOON.isoformat(), "end": (NOON + timedelta(hours=2)).isoformat(), **asked}
    question = understand(load_domains()["lighting"], Asked(**form), "UTC", NOON + timedelta(days=1))
    async with snapshot(connection, timedelta(seconds=30)) as reading:
        found = await answer(reading, question, limits[0], Streaming(2, limits[1]))
        return sum([len(part.points) async for part in found.parts()])


@pytest.mark.asyncio
async def test_stream_has_its_own_limit_from_the_first_check_to_the_last_row(connection: asyncpg.Connection) -> None:
    city = City(connection, "lighting", [LAMP, GUEST])
    await city.register()
    quarters = [NOON + timedelta(minutes=15 * number) for number in range(8)]
    await city.add(Row(at, LAMP, {"power_w": 1.0}) for at in quarters)
    assert await rows(connection, (4, 8)) == 8
    with pytest.raises(TooLarge, match="8 values, and 7 are allowed"):
        await rows(connection, (4, 7))
    with pytest.raises(TooLarge, match="8 values, and 4 are allowed"):
        await rows(connection, (4, 8), fill="null")
    # A device that is at home elsewhere was not counted beforehand.
    await city.add(Row(at, GUEST, {"power_w": 2.0}) for at in quarters)
    assert await rows(connection, (4, 16)) == 16
    for most in (2, 8, 15):
        with pytest.raises(TooLarge, match="are allowed"):
            await rows(connection, (4, most))
