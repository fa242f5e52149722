"""The service has no time for a question now: it is asked again, unless that is turned off."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from telemetry.client import AsyncClient, TooManyQuestions


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
@pytest.mark.parametrize("limits", [{"max_concurrent_per_client": 1}], indirect=True)
async def test_question_that_is_one_too_many_is_asked_again(address: str, connection: asyncpg.Connection) -> None:
    async with AsyncClient(address) as patient, AsyncClient(address, retry=None) as impatient:
        async with connection.transaction():
            await connection.execute("LOCK TABLE devices IN ACCESS EXCLUSIVE MODE")
            running = asyncio.create_task(patient.device("lamp-1"))
            await asyncio.sleep(0.2)
            waiting = asyncio.create_task(patient.device("lamp-2"))
            with pytest.raises(TooManyQuestions, match="429 too-many-questions: 1 questions") as refused:
                await impatient.device("lamp-3")
            assert (refused.value.retry_after, refused.value.limit) == (2, 1)
            await asyncio.sleep(0.5)
            assert not waiting.done()
        assert [(await each).device_id for each in (running, waiting)] == ["lamp-1", "lamp-2"]
