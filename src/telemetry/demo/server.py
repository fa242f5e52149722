"""A server that belongs to us: a direct child process on a local port, which never outlives its parent.

The kernel ties the life of a child to the *thread* that started it. Each server therefore has a thread of its own that
starts it and then waits for it; so it does not matter which thread calls `start`, nor that this thread ends.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from telemetry.demo.ports import HOST
from telemetry.errors import ConfigurationError, TelemetryError, Unavailable

_POLL_S: Final = 0.02


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now, and that the kernel offers to nobody else for a minute."""
    with socket.create_server((HOST, 0)) as probe:
        port = int(probe.getsockname()[1])
        with socket.create_connection((HOST, port)), probe.accept()[0] as ours:
            # Whoever closes first remembers the connection (TIME_WAIT). A port with such a memory is free for those
            # that ask for it by its number, as servers do, and passed over when somebody asks for any port.
            ours.close()
    return port


class LocalServer(ABC):
    """What PostgreSQL and Mosquitto share: one folder, one port, one process, one log.

    Args:
        directory: everything of the server lies here; made on the first start, kept afterwards.
        port: TCP port on 127.0.0.1; none = a free one, which then stays the same over restarts.
    """

    NAME: ClassVar[str]
    DEATH_SIGNAL: ClassVar[signal.Signals]
    """What the kernel sends to the server when we are killed."""
    READY_WITHIN_S: ClassVar[float] = 60.0
    """A slow machine that recovers a database may well need a good part of a minute."""
    host: Final = HOST

    def __init__(self, directory: Path, port: int | None = None) -> None:
        self.directory = directory.absolute()
        self.port = port or free_port()
        self._child: _Child | None = None

    @property
    def log(self) -> Path:
        """What the server says; each start is appended."""
        return self.directory / f"{self.NAME.lower()}.log"

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self._child is not None and not self._child.ended.is_set()

    @property
    def pid(self) -> int:
        """The process id; the server must have been started."""
        assert self._child is not None
        return self._child.process.pid

    @abstractmethod
    def start(self) -> None:
        """Starts it, unless it runs already, and waits until it answers.

        Raises:
            ConfigurationError: port, folder or program is not as needed; the sentence says what to do.
            Unavailable: it did not get ready in time.
        """

    def stop(self) -> None:
        """Asks it to end and waits; nothing happens when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it as a crash would: SIGKILL, nothing is flushed."""
        self._end(signal.SIGKILL)

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the process that was just started takes connections."""

    def _launch(self, command: Sequence[str], user: str | None = None) -> None:
        self._require_free_port()
        begins = self.log.stat().st_size if self.log.exists() else 0
        self._child = _Child(command, self.log, self.DEATH_SIGNAL, user)
        deadline = time.monotonic() + self.READY_WITHIN_S
        try:
            while not self._answers():
                if self._child.ended.wait(_POLL_S):
                    raise self._explained(self.log.read_bytes()[begins:].decode(errors="replace"))
                if time.monotonic() > deadline:
                    raise Unavailable(f"{self.NAME} was not ready after {self.READY_WITHIN_S:.0f} s; see {self.log}")
        except BaseException:
            self._end(signal.SIGKILL)
            raise

    def _explained(self, said: str) -> TelemetryError:
        """Why it ended by itself, from what it said since it was started."""
        if "address already in use" in said.lower():
            return self._port_taken()
        return ConfigurationError(f"{self.NAME} did not start: {_cause(said)}; see {self.log}")

    def _end(self, how: signal.Signals, within_s: float = 60.0) -> None:
        if self._child is None:
            return
        self._child.process.send_signal(how)
        if not self._child.ended.wait(within_s):
            self._child.process.kill()
            self._child.ended.wait()
        self._child = None

    def _require_free_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self.port))
            except PermissionError:
                raise ConfigurationError(
                    f"port {self.port}, which {self.NAME} wants, is reserved for root; choose one above 1023"
                ) from None
            except OSError:
                raise self._port_taken() from None

    def _port_taken(self) -> ConfigurationError:
        return ConfigurationError(
            f"port {self.port}, which {self.NAME} wants, is taken by another program; "
            "stop that one or choose another port"
        )

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self.log.touch()
        except OSError as error:
            raise ConfigurationError(
                f"the folder {self.directory} of {self.NAME} cannot be written: {error.strerror}; "
                "name another one or give yourself the right to write there"
            ) from error


class _Child:
    """A process, and the thread that starts it and waits for it."""

    def __init__(self, command: Sequence[str], log: Path, death_signal: signal.Signals, user: str | None) -> None:
        self.ended = threading.Event()
        self._command = [*_dying_with_parent(death_signal), *command]
        self._log = log
        self._user = user
        self._settled = threading.Event()
        self._started: subprocess.Popen[bytes] | OSError | None = None
        threading.Thread(target=self._keep, name=f"keeper of {Path(command[0]).name}", daemon=True).start()
        self._settled.wait()
        if isinstance(self._started, OSError):
            raise ConfigurationError(f"{command[0]} cannot be run: {self._started.strerror}") from self._started

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process; it was started by the constructor."""
        assert isinstance(self._started, subprocess.Popen)
        return self._started

    def _keep(self) -> None:
        try:
            self._started = self._spawn()
        except OSError as error:
            self._started = error
        self._settled.set()
        if isinstance(self._started, subprocess.Popen):
            self._started.wait()
        self.ended.set()

    def _spawn(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C is for us, and we stop the servers in the right order.
        with self._log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - our own command
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else [],
            )


def _dying_with_parent(death_signal: signal.Signals) -> list[str]:
    """The command before the command that asks the kernel for that signal; empty where there is none."""
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", death_signal.name.removeprefix("SIG"), "--"] if program else []


def _cause(said: str) -> str:
    """The line of a log that tells most: the first fatal one, otherwise the last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    fatal = [line.partition("FATAL:")[2].strip() for line in lines if "FATAL:" in line]
    return (fatal or lines[-1:] or ["it said nothing"])[0]
