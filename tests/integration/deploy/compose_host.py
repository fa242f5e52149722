"""The services of the Compose file as plain processes: their commands, variables, secrets and health checks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from telemetry.demo.server import free_port
from tests.unit.deploy.compose import FOLDER, environment, services

READY_WITHIN_S = 120.0


@dataclass
class ComposeHost:
    """A folder that stands for the containers' file systems, with ports of its own instead of the usual ones.

    Attributes:
        ports: what each port of the file is here.
        replaced: further texts of the file and what stands for them here.
    """

    folder: Path
    ports: Mapping[int, int]
    replaced: Mapping[str, str]

    @classmethod
    def prepare(cls, folder: Path, database_url: str) -> ComposeHost:
        """Makes the secrets with the script, and the broker's folder as the image and the mounts would have it."""
        folder.chmod(0o755)
        (folder / "make-secrets").write_text((FOLDER / "make-secrets").read_text())
        subprocess.run(["sh", folder / "make-secrets"], check=True, capture_output=True)
        (folder / "secrets" / "database_url").write_text(f"{database_url}\n")
        host = cls(
            folder,
            {port: free_port() for port in (1883, 8000, 9464)},
            {"/run/secrets/": f"{folder}/secrets/", "/mosquitto/": f"{folder}/mosquitto/"},
        )
        for name in ("config", "data"):
            (folder / "mosquitto" / name).mkdir(parents=True)
        for file in (FOLDER / "mosquitto").iterdir():
            text = file.read_text().replace("/mosquitto/", f"{folder}/mosquitto/")
            text = text.replace("listener 1883", f"listener {host.ports[1883]} 127.0.0.1")
            (folder / "mosquitto" / "config" / file.name).write_text(text)
        if os.geteuid() == 0:
            # The image's entrypoint does it.
            subprocess.run(["chown", "-R", "mosquitto:", folder / "mosquitto"], check=True)
        return host

    def secret(self, name: str) -> str:
        """The content of a secret."""
        return (self.folder / "secrets" / name).read_text().strip()

    def here(self, text: str) -> str:
        """A text of the file with the places and ports of this host."""
        for there_port, here_port in self.ports.items():
            text = re.sub(rf"\b{there_port}\b", str(here_port), text)
        for there, here in self.replaced.items():
            text = text.replace(there, here)
        return text

    def variables(self, name: str) -> dict[str, str]:
        """The environment of a service."""
        given = {variable: self.here(value) for variable, value in environment(services()[name]).items()}
        if "TELEMETRY_MQTT__HOST" in given:
            given["TELEMETRY_MQTT__HOST"] = "127.0.0.1"
        return {"PATH": f"{os.environ['PATH']}:/usr/sbin", **given}

    def command(self, name: str) -> list[str]:
        """The command line of a service."""
        service = services()[name]
        if "build" in service:
            return [sys.executable, "-m", "telemetry", *service["command"]]
        words = [self.here(word) for word in service["command"]]
        return words if os.geteuid() == 0 else [word.replace("chown mosquitto:", "true") for word in words]

    @contextmanager
    def running(self, name: str, **further: str) -> Iterator[subprocess.Popen[bytes]]:
        """Runs a service, healthy where it says what that is; asserts that it ends in order when it is told to."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.command(name), cwd=self.folder, env=self.variables(name) | further, stdout=output, stderr=output
            )
            try:
                if "healthcheck" in services()[name]:
                    wait_until(lambda: process.poll() is not None or self.is_healthy(name), log)
                assert process.poll() is None, log.read_text()
                yield process
                process.terminate()
                code = process.wait(int(services()[name]["stop_grace_period"].removesuffix("s")))
                assert code == 0, f"{name}: {code}: {log.read_text()}"
            finally:
                process.kill()
                process.wait()

    def is_healthy(self, name: str) -> bool:
        """What the service's health check says now."""
        kind, *words = services()[name]["healthcheck"]["test"]
        words = [sys.executable if word == "python" else self.here(word) for word in words]
        command = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        return subprocess.run(command, capture_output=True, timeout=READY_WITHIN_S).returncode == 0


def wait_until(condition: Callable[[], bool], log: Path) -> None:
    """Waits for a condition that has to come true soon."""
    deadline = time.monotonic() + READY_WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
