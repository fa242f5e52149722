"""A Mosquitto of our own, from the system's package, for the demo and for every integration test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from telemetry.demo.ports import HOST
from telemetry.demo.server import LocalServer, free_port
from telemetry.errors import ConfigurationError

__all__ = ["LocalMosquitto", "find_mosquitto", "free_port"]

BESIDE_PATH: Final = "/usr/sbin:/usr/local/sbin"
"""Where Debian installs it, which the PATH of ordinary users leaves out."""

_OPTIONS: Final = {
    "allow_anonymous": "true",
    "persistence": "true",
    # 0 is no limit: Mosquitto otherwise drops silently what exceeds 1000 queued messages, and has 20 in flight.
    "max_queued_messages": "0",
    "max_inflight_messages": "0",
    "set_tcp_nodelay": "true",
    "log_dest": "stderr",
}


class LocalMosquitto(LocalServer):
    """Mosquitto with a persistent queue in a folder.

    Args:
        directory: configuration, queue and log.
        port: TCP port on 127.0.0.1; none = a free one.
        options: further lines of `mosquitto.conf`, which also replace ours of the same name.
    """

    NAME: ClassVar = "Mosquitto"
    # On SIGTERM it writes the queue to disk.
    DEATH_SIGNAL: ClassVar = signal.SIGTERM

    def __init__(self, directory: Path, port: int | None = None, *, options: Mapping[str, str] | None = None) -> None:
        super().__init__(directory, port)
        self._options = {**_OPTIONS, **(options or {})}

    def start(self) -> None:
        """Starts it, unless it runs already, and waits until it takes connections; errors as in `LocalServer`."""
        if self.running:
            return
        program = find_mosquitto()
        self._make_directory()
        configuration = self.directory / "mosquitto.conf"
        configuration.write_text(self._configuration())
        self._launch([str(program), "-c", str(configuration)])

    def _configuration(self) -> str:
        lines = {"listener": f"{self.port} {HOST}", "persistence_location": f"{self.directory}/", **self._options}
        if os.geteuid() == 0:
            # It would otherwise become the user mosquitto, who may not write into a folder of root.
            lines["user"] = "root"
        errors = "log_type error\nlog_type warning\n"
        return "".join(f"{name} {value}\n" for name, value in lines.items()) + errors

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1):
                return self.running
        except OSError:
            return False


def find_mosquitto() -> Path:
    """The broker's program.

    Raises:
        ConfigurationError: it is not installed.
    """
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path=BESIDE_PATH)
    if program is None:
        raise ConfigurationError(
            "Mosquitto is not installed; install it with `apt-get install mosquitto mosquitto-clients` "
            "(or your system's counterpart)"
        )
    return Path(program)
