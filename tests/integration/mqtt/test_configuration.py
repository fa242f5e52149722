"""`config/mosquitto.conf` on a real Mosquitto: taken as it stands, but for port and places, and keeping its word."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from telemetry.demo.mosquitto import LocalMosquitto
from tests.integration.mqtt.subscribing import Publisher, listening, mqtt_settings
from tests.support.server import temporary_directory

CONFIGURATION = Path(__file__).parents[3] / "config" / "mosquitto.conf"
USER, PASSWORD = "telemetry", "correct horse"


class ConfiguredMosquitto(LocalMosquitto):
    """Started with the file of the repository; only port, folder and password file are this test's own."""

    def _configuration(self) -> str:
        password_file = self.directory / "passwd"
        replaced = {
            "listener 1883 127.0.0.1": f"listener {self.port} 127.0.0.1",
            "persistence_location /var/lib/mosquitto/": f"persistence_location {self.directory}/",
            "password_file /etc/mosquitto/passwd": f"password_file {password_file}",
        }
        lines = CONFIGURATION.read_text().splitlines()
        for line, ours in replaced.items():
            lines[lines.index(line)] = ours
        password_file.touch()
        subprocess.run(["mosquitto_passwd", "-b", password_file, USER, PASSWORD], check=True, capture_output=True)
        return "\n".join([*lines, "user root"])


@pytest.fixture
def configured() -> Iterator[LocalMosquitto]:
    with temporary_directory() as directory:
        broker = ConfiguredMosquitto(directory)
        try:
            broker.start()
            yield broker
        finally:
            broker.stop()


@pytest.mark.asyncio
async def test_configuration_keeps_far_more_than_the_default_thousand_over_a_restart(
    configured: LocalMosquitto, topic_root: str
) -> None:
    settings = mqtt_settings(configured, username=USER, password=PASSWORD)
    async with listening(settings, topic_root):
        pass
    async with Publisher(configured, topic_root, USER, PASSWORD) as publisher:
        await publisher.publish(3000)
    configured.stop()
    configured.start()
    async with listening(settings, topic_root, settle=True) as listener:
        await listener.received(3000)
        assert listener.subscriber.stats.sessions_lost == 0
    assert "Error" not in configured.log.read_text()


def test_configuration_says_why_for_each_setting() -> None:
    """A setting stands below a comment, or below another setting that shares it."""
    lines = CONFIGURATION.read_text().splitlines()
    assert [line for before, line in pairwise(lines) if line and not line.startswith("#") and not before] == []
