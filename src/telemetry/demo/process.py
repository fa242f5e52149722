"""A process of the demo: one `telemetry` command, logging into a file, that never outlives the demo."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from telemetry.errors import TelemetryError

_STOP_S: Final = 20.0


class ProcessDied(TelemetryError):
    """A process of the demo ended by itself; the message carries the end of its log."""


class DemoProcess:
    """One `telemetry` command in a process of its own, as it is deployed."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    async def start(cls, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> DemoProcess:
        """Starts `python -m telemetry …` in a session of its own, so that Ctrl-C reaches the demo alone.

        The log of the last time is kept beside the new one as `.log.1`.
        """
        with _fresh(log) as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "telemetry",
                f"--parent={os.getpid()}",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        return cls(name, process, log)

    def require_alive(self) -> None:
        """Makes sure that it has not ended by itself.

        Raises:
            ProcessDied: it has; the end of its log is told.
        """
        if self._process.returncode is not None:
            ended = f"{self.name} ended by itself with code {self._process.returncode}"
            tail = self.tail()
            raise ProcessDied(f"{ended}; its log {self.log} " + (f"ends:\n{tail}" if tail else "is empty"))

    async def stop(self, within_s: float = _STOP_S) -> int:
        """Asks it to end, in time by force; returns its exit code."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            return await asyncio.wait_for(self._process.wait(), within_s)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            return await self._process.wait()

    def tail(self, lines: int = 12) -> str:
        """The last lines of the log, indented."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError as error:
            return f"  (the log cannot be read: {error.strerror})"
        return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])


def _fresh(log: Path) -> BinaryIO:
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    return log.open("wb")
