"""Tasks that end together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

_AGAIN_S: Final = 0.5


async def together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Runs all; the first error ends them all and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except* Exception as errors:
        # As it is, with its own cause: a `from None` would take that away.
        raise errors.exceptions[0] from errors.exceptions[0].__cause__


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result | None:
    """The result of the work, or None when told to stop before it is there."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        await end(working, stopping)


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancels tasks and waits until they have ended.

    It cancels again where one goes on: `asyncio.wait_for` of Python 3.11 can lose a cancellation, and drivers use it.
    """
    while going := [task for task in tasks if not task.done()]:
        for task in going:
            task.cancel()
        await asyncio.wait(going, timeout=_AGAIN_S)
