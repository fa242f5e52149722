"""`telemetry ingest --workers N`: starts the workers, starts again what dies, and shows the metrics of all.

A worker that was killed is started again; one that says that a person has to act (exit code 1) ends all of them, for
the others could only let its messages pile up at the broker unseen.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from typing import Final

import structlog

from telemetry.domains import load_domains
from telemetry.errors import ConfigurationError
from telemetry.ingest.exposition import Page, serve_page
from telemetry.ingest.metrics import WorkerMetrics, of_process
from telemetry.ingest.shares import shares
from telemetry.mqtt.backoff import Backoff
from telemetry.settings import Settings

log = structlog.get_logger()

SUPERVISOR: Final = "supervisor"
"""Of whom the metrics of this process are, in the label `worker`."""
_END_WITHIN_S: Final = 4.5
"""For a worker that was told to end; what it has not committed by then is delivered again."""
_STABLE_AFTER_S: Final = 30.0
_FAULTS: Final = (1, 2)
"""Exit codes of a worker whose settings, schema or arguments are wrong: to start it again cannot help."""


async def run(settings: Settings, arguments: Sequence[str], overrides: bytes, stop: asyncio.Event) -> None:
    """Runs as many workers as the settings say until told to stop.

    Args:
        arguments: those of `telemetry` that make a worker of a process.
        overrides: what each reads from its standard input, to have the same settings.

    Raises:
        ConfigurationError: the messages cannot be shared out so, or a worker has ended with a fault that it has told.
    """
    divided = shares(settings, list(load_domains(settings.domains.directories)))
    page = Page()
    page.add(SUPERVISOR, of_process())
    with serve_page(page, settings):
        await _Supervisor(arguments, overrides, page).run(len(divided), stop)


class _Supervisor:
    """The workers of one `telemetry ingest`."""

    def __init__(self, arguments: Sequence[str], overrides: bytes, page: Page) -> None:
        self._arguments = arguments
        self._overrides = overrides
        self._page = page
        self._running: dict[int, asyncio.subprocess.Process] = {}

    async def run(self, workers: int, stop: asyncio.Event) -> None:
        keeping = [asyncio.create_task(self._keep(number), name=f"worker-{number}") for number in range(1, workers + 1)]
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait({*keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*keeping, stopping):
                task.cancel()
            await asyncio.wait({*keeping, stopping})
            await asyncio.gather(*(_end(process) for process in self._running.values()))
        for task in done - {stopping}:
            task.result()

    async def _keep(self, number: int) -> None:
        """Keeps one worker running."""
        backoff = Backoff(1.0, 30.0, floor=0.1)
        metrics = WorkerMetrics()
        self._page.add(str(number), metrics.registry)
        while True:
            began = time.monotonic()
            process = await self._start(number)
            code = await process.wait()
            if code in _FAULTS:
                raise ConfigurationError(
                    f"worker {number} has ended with code {code}; what it said above must be put right"
                )
            if time.monotonic() - began >= _STABLE_AFTER_S:
                backoff.reset()
            delay = backoff.delay()
            log.warning(
                "ingest_worker_died",
                detail="A worker has ended and is started again; the broker holds its messages.",
                worker=number,
                code=code,
                retry_s=round(delay, 2),
            )
            await asyncio.sleep(delay)
            metrics.restarts.inc()

    async def _start(self, number: int) -> asyncio.subprocess.Process:
        mine, its = Pipe()
        with its:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "telemetry", f"--parent={os.getpid()}", *self._arguments),
                *("--number", str(number), "--report-to", str(its.fileno())),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=[its.fileno()],
                # Ctrl-C reaches the supervisor alone, which tells the workers.
                start_new_session=True,
            )
        self._running[number] = process
        self._page.add_process(str(number), mine)
        assert process.stdin is not None
        process.stdin.write(self._overrides)
        process.stdin.close()
        log.info("ingest_worker_started", worker=number, pid=process.pid)
        return process


async def _end(process: asyncio.subprocess.Process) -> None:
    """Asks a worker to end, in time by force."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _END_WITHIN_S)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
