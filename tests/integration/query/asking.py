"""Asking questions in tests, and the lamps they are about."""

from __future__ import annotations

from datetime import timedelta

import asyncpg

from telemetry.query.database import snapshot
from telemetry.query.question import Question
from telemetry.query.series import Series, answer
from telemetry.store.devices import Device

DEVICES = (
    Device("lamp-1", "lighting", zone="North", interval_s=300),
    Device("lamp-2", "lighting", zone="North"),
    Device("lamp-3", "lighting", zone="South"),
    Device("lamp-4", "lighting"),
)


async def ask(connection: asyncpg.Connection, question: Question) -> Series:
    """The answer to a question, as the service finds it."""
    async with snapshot(connection, timedelta(seconds=30)) as reading:
        return await answer(reading, question, 500_000)
