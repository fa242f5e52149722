"""The Compose file's services run together: its commands, variables, secrets, checks and broker, without containers."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit, urlunsplit

import pytest

from telemetry.store.engine import Engine
from tests.integration.deploy.compose_host import READY_WITHIN_S, ComposeHost, wait_until
from tests.support.server import temporary_directory
from tests.support.sql import fetch_row

READING = json.dumps({"power_w": 41.5, "lamp_on": True})


@pytest.fixture
def host(empty_database_url: str) -> Iterator[ComposeHost]:
    """Secrets and broker's folder, the broker not yet running."""
    with temporary_directory() as folder:
        yield ComposeHost.prepare(folder, empty_database_url)


def client(host: ComposeHost, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of Mosquitto's own clients."""
    command = [program, "-h", "127.0.0.1", "-p", str(host.ports[1883]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=READY_WITHIN_S)


def gateway(host: ComposeHost) -> list[str]:
    """The user and password that gateways have."""
    return ["-u", "gateway", "-P", host.secret("gateway_password")]


def answer(host: ComposeHost, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{host.ports[8000]}{path}", timeout=READY_WITHIN_S) as response:
        return str(response.read().decode())


def test_reading_goes_from_the_gateway_to_the_api_and_to_grafana(host: ComposeHost, engine: Engine) -> None:
    chosen = {"TELEMETRY_DATABASE__ENGINE": str(engine)}
    with ExitStack() as stack:
        stack.enter_context(host.running("mqtt"))
        migrated = subprocess.run(
            host.command("migrate"),
            env=host.variables("migrate") | chosen,
            capture_output=True,
            text=True,
            timeout=READY_WITHIN_S,
        )
        assert migrated.returncode == 0, migrated.stderr
        for name in ("ingest", "api", "maintain"):
            stack.enter_context(host.running(name, **chosen))
        topic = ["-t", "city/v1/lighting/lamp-1", "-m", READING, "-q", "1", "-V", "5"]
        published = client(host, "mosquitto_pub", *gateway(host), *topic)
        assert published.returncode == 0, published.stderr
        wait_until(lambda: "41.5" in answer(host, "/v1/lighting/latest"), host.folder / "ingest.log")
        url = urlsplit(host.secret("database_url"))
        reader = f"telemetry_reader:{host.secret('reader_password')}@{url.netloc.rpartition('@')[2]}"
        row = fetch_row(urlunsplit(url._replace(netloc=reader)), "SELECT device_id, power_w FROM lighting")
        assert tuple(row) == ("lamp-1", 41.5)
        # It has no health check; asked to end while it is still loading, it could not answer in order.
        log = host.folder / "maintain.log"
        wait_until(lambda: "maintain_leads" in log.read_text(), log)


def test_services_refuse_to_start_without_their_secrets(host: ComposeHost) -> None:
    (host.folder / "secrets" / "database_url").unlink()
    refused = subprocess.run(
        host.command("migrate"), env=host.variables("migrate"), capture_output=True, text=True, timeout=READY_WITHIN_S
    )
    assert refused.returncode == 1
    assert "TELEMETRY_DATABASE__URL_FILE" in refused.stderr


def test_health_of_ingest_is_its_connection_to_the_broker(host: ComposeHost, engine: Engine) -> None:
    chosen = {"TELEMETRY_DATABASE__ENGINE": str(engine)}
    subprocess.run(host.command("migrate"), env=host.variables("migrate") | chosen, check=True, timeout=READY_WITHIN_S)
    with ExitStack() as stack:
        with host.running("mqtt"):
            stack.enter_context(host.running("ingest", **chosen))
        assert not host.is_healthy("mqtt")
        wait_until(lambda: not host.is_healthy("ingest"), host.folder / "ingest.log")


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
def test_broker_lets_nobody_in_who_has_no_password(host: ComposeHost) -> None:
    with host.running("mqtt"):
        for stranger in ([], ["-u", "telemetry", "-P", "guess"]):
            refused = client(host, "mosquitto_pub", *stranger, "-t", "city/v1/x/y", "-m", "{}", "-q", "1", "-V", "5")
            assert refused.returncode != 0
        assert "guess" not in (host.folder / "mosquitto" / "users").read_text()
        assert host.secret("mqtt_password") not in (host.folder / "mosquitto" / "users").read_text()


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
def test_gateway_may_write_and_not_read(host: ComposeHost) -> None:
    with host.running("mqtt"):
        topic = "city/v1/lighting/lamp-1"
        client(host, "mosquitto_pub", *gateway(host), "-t", topic, "-m", READING, "-r", "-q", "1")
        seen = client(host, "mosquitto_sub", *gateway(host), "-t", "#", "-W", "1")
        assert seen.stdout == ""
        ingest = ["-u", "telemetry", "-P", host.secret("mqtt_password")]
        seen = client(host, "mosquitto_sub", *ingest, "-t", "city/v1/#", "-C", "1", "-W", "60")
        assert json.loads(seen.stdout) == json.loads(READING)


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
def test_queue_of_the_broker_survives_its_restart_and_has_no_limit(host: ComposeHost) -> None:
    ingest = ["-u", "telemetry", "-P", host.secret("mqtt_password"), "-V", "5", "-i", "telemetry-ingest", "-q", "1"]
    session = ["-c", "-x", "3600", "-t", "city/v1/#"]
    messages = "\n".join(str(number) for number in range(1_500)) + "\n"
    with host.running("mqtt"):
        # Subscribes and leaves, so that the session is there and away.
        subscribed = client(host, "mosquitto_sub", *ingest, *session, "-E")
        assert subscribed.returncode == 0, subscribed.stderr
        command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(host.ports[1883]), *gateway(host), "-V", "5"]
        subprocess.run(
            [*command, "-q", "1", "-t", "city/v1/waste/bin-1", "-l"],
            input=messages,
            text=True,
            check=True,
            timeout=READY_WITHIN_S,
        )
    with host.running("mqtt"):
        received = client(host, "mosquitto_sub", *ingest, *session, "-C", "1500", "-W", "60")
    assert received.stdout == messages
