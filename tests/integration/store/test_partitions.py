"""Partitions of the plain engine, made by several processes at the same moment."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import date, timedelta

import pytest

from telemetry.settings import Settings
from telemetry.store.maintain import ensure_partitions
from telemetry.store.pool import connection as connected


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_partition_that_several_processes_want_at_once_is_made_once(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(connected(settings, "test")) for _ in range(4)]
        for number in range(12):
            day = date(2031, 1, 1) + timedelta(days=number)
            made = await asyncio.gather(*(ensure_partitions(each, "waste", [day]) for each in databases))
            assert sum(made) == 1
