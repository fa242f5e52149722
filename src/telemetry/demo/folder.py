"""The folder of a demo: database, broker, settings and logs, for one demo at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from telemetry.errors import ConfigurationError


class DemoFolder:
    """Where everything of a demo lies; the paths are absolute."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def database(self) -> Path:
        """The cluster of the embedded PostgreSQL."""
        return self.path / "postgres"

    @property
    def broker(self) -> Path:
        """Configuration and queue of Mosquitto."""
        return self.path / "mosquitto"

    @property
    def settings(self) -> Path:
        """The settings under which the processes run; `telemetry --config` takes the file as well."""
        return self.path / "telemetry.yaml"

    def log(self, name: str) -> Path:
        """The log of a process."""
        return self.path / "logs" / f"{name}.log"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder and keeps other demos out of it.

        Raises:
            ConfigurationError: it cannot be written, or another demo is at work in it.
        """
        try:
            (self.path / "logs").mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / "demo.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"the folder {self.path} cannot be written: {error.strerror}; name another one with --data-dir"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"another demo (process {_holder(handle)}) is at work in {self.path}; "
                "stop it with Ctrl-C, or name another folder with --data-dir"
            ) from None
        else:
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(handle)


def _holder(handle: int) -> str:
    return os.pread(handle, 32, 0).decode(errors="replace") or "unknown"
