"""Asking questions in tests, and the lamps they are about."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import asyncpg

from telemetry.query.answering import Streaming, answer
from telemetry.query.database import snapshot
from telemetry.query.question import Question
from telemetry.query.series import Series
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


async def ask_in_parts(
    connection: asyncpg.Connection, question: Question, at_once: int, max_values: int = 500_000
) -> Series:
    """The answer read part by part, so many rows at a time, and put together again."""
    async with snapshot(connection, timedelta(seconds=30)) as reading:
        found = await answer(reading, question, max_values, Streaming(at_once, 500_000))
        points = [point async for part in found.parts() for point in part.points]
    return replace(found, rows=None, made=points, rest=None)
