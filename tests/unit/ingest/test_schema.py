"""The wait for the tables outlasts a server that says nothing."""

from __future__ import annotations

import asyncio

import pytest

from telemetry.errors import ConfigurationError
from telemetry.ingest import schema
from telemetry.settings import Settings


@pytest.mark.asyncio
async def test_silent_database_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def check(settings: Settings) -> list[str]:
        nonlocal asked
        asked += 1
        if asked == 1:
            await asyncio.Event().wait()
        return []

    monkeypatch.setattr(schema, "check", check)
    monkeypatch.setattr(schema, "_ANSWER_WITHIN_S", 0.01)
    monkeypatch.setattr(schema, "_RETRY_S", 0.01)
    await asyncio.wait_for(schema.wait_for_schema(Settings()), 10)
    assert asked == 2


@pytest.mark.asyncio
async def test_database_without_our_tables_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(settings: Settings) -> list[str]:
        return ["migration 0001_core is pending"]

    monkeypatch.setattr(schema, "check", check)
    with pytest.raises(ConfigurationError, match="0001_core is pending"):
        await schema.wait_for_schema(Settings())
