"""`telemetry demo` as a new user meets it: everything starts, answers, adds up and is gone afterwards."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from telemetry.client import Client, InvalidParameter
from telemetry.demo.mosquitto import free_port
from telemetry.demo.welcome import QUESTIONS
from tests.support.server import temporary_directory

DOMAINS = {"energy", "lighting", "parking", "waste"}
PUBLISHERS = 5
TRIES = 200
RATE = 200
DEVICES = 200
PAST = DEVICES * 192
"""Readings of the two days that the first start fills in."""
PATIENCE_S = 180.0


class RunningDemo:
    """A demo in a process of its own, with its JSON lines."""

    def __init__(self, data_dir: Path, *flags: str) -> None:
        self.data_dir = data_dir
        self.api_port, self.mqtt_port = free_port(), free_port()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "telemetry", "demo", "--json-status"),
                *("--data-dir", str(data_dir), "--rate", str(RATE), "--devices", str(DEVICES)),
                *("--api-port", str(self.api_port), "--mqtt-port", str(self.mqtt_port)),
                *flags,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=next(folder for folder in data_dir.parents if folder.is_dir()),
        )

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next object of that event; the demo has ended if there is none."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said: dict[str, Any] = json.loads(line)
            if said["event"] == event:
                return said
        raise AssertionError(f"the demo ended without {event}: {self.finish()}")

    def wait_until_stored(self, readings: int) -> dict[str, Any]:
        """The first status that says that so many readings are stored."""
        deadline = time.monotonic() + PATIENCE_S
        while (status := self.wait_for("status"))["stored"] < readings:
            assert time.monotonic() < deadline, status
        return status

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the demo alone."""
        self._process.send_signal(number)

    def child(self, command: str) -> psutil.Process:
        """The process of the demo that runs that `telemetry` command."""
        children = psutil.Process(self._process.pid).children(recursive=True)
        begins = ["-m", "telemetry", f"--parent={self._process.pid}", command]
        return next(child for child in children if child.cmdline()[1:5] == begins)

    def finish(self) -> tuple[int, str]:
        """Exit code and standard error, once it has ended."""
        _, error = self._process.communicate(timeout=PATIENCE_S)
        return self._process.returncode, error

    def left_behind(self) -> list[str]:
        """Command lines of processes that still work for this demo."""
        return [
            " ".join(process.info["cmdline"]) for process in psutil.process_iter(["cmdline"]) if self._owns(process)
        ]

    def close(self) -> None:
        """Ends it by force where a test has failed."""
        if self._process.poll() is None:
            self._process.kill()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        self._process.wait()

    def _owns(self, process: psutil.Process) -> bool:
        try:
            environment = process.environ()
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            environment = {}
        mentions = [*(process.info["cmdline"] or ()), environment.get("TELEMETRY_CONFIG", "")]
        return any(str(self.data_dir) in text for text in mentions)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that the system user of PostgreSQL can be let into, and that no other session of pytest closes again."""
    with temporary_directory() as made:
        yield made


@pytest.fixture
def demos() -> Iterator[list[RunningDemo]]:
    """Demos of a test; those that it leaves running are ended."""
    started: list[RunningDemo] = []
    yield started
    for demo in started:
        demo.close()


def sentence(demo: RunningDemo) -> str:
    """What a demo that cannot start says: no traceback, exit code not 0, nothing left."""
    code, error = demo.finish()
    assert code not in (0, -signal.SIGSEGV)
    assert "Traceback" not in error
    assert demo.left_behind() == []
    return error


def test_demo_stores_all_domains_balances_and_goes_on_with_the_same_data(home: Path, demos: list[RunningDemo]) -> None:
    first = RunningDemo(home / "demo")
    demos.append(first)
    start_s = first.wait_for("ready")["start_s"]
    assert start_s < 30 or start_s < 20 * command_s()
    status = first.wait_until_stored(PAST + 10 * RATE)
    assert {"messages_per_s", "stored", "quarantined", "lag_s"} <= set(status)
    first.send(signal.SIGINT)
    summary = first.wait_for("summary")
    assert first.finish() == (0, "")
    assert first.left_behind() == []
    assert_balanced(summary)
    assert summary["published"] >= PAST + 10 * RATE

    # It has all the time that the first one needed until its city published, and some more.
    second = RunningDemo(home / "demo", "--duration", f"{start_s + 3:.0f}")
    demos.append(second)
    again = second.wait_for("summary")
    assert second.finish() == (0, "")
    assert second.left_behind() == []
    assert_balanced(again)
    # What it has published live, and the one quarter of an hour, or two, that went by meanwhile.
    assert again["published"] <= RATE * again["elapsed_s"] + 2 * DEVICES
    assert again["duplicate"] == 0
    assert all(run["series"][domain] >= 48 for run in (summary, again) for domain in DOMAINS)


def test_demo_makes_a_reading_visible_within_a_second_and_stops_on_ctrl_c(home: Path, demos: list[RunningDemo]) -> None:
    demo = RunningDemo(home / "demo")
    demos.append(demo)
    demo.wait_for("ready")

    rival = RunningDemo(home / "demo")
    demos.append(rival)
    code, error = rival.finish()
    assert code != 0
    assert "another demo" in error
    assert "--data-dir" in error

    address = f"http://127.0.0.1:{demo.api_port}"
    for _, route in QUESTIONS:
        answer = httpx.get(f"{address}/v1/{route}", timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"], route
    with Client(address) as client, ThreadPoolExecutor(PUBLISHERS) as pool:
        assert_answered(client)
        tries = [*pool.map(lambda number: publish_to_visible_s(client, demo.mqtt_port, number), range(TRIES))]
    taken, others = (sorted(each) for each in zip(*tries, strict=True))
    p99, usual = (each[int(TRIES * 0.99) - 1] for each in (taken, others))
    figures = f"median {taken[TRIES // 2]:.3f} s, p99 {p99:.3f} s, of others' {usual:.3f} s"
    assert p99 < max(1.0, 5 * usual), figures

    demo.send(signal.SIGINT)
    summary = demo.wait_for("summary")
    assert demo.finish() == (0, "")
    assert demo.left_behind() == []
    assert summary["balanced"]
    assert summary["received"] == summary["published"] + TRIES


def test_demo_killed_outright_leaves_no_process_behind(home: Path, demos: list[RunningDemo]) -> None:
    demo = RunningDemo(home / "demo", "--devices", "20")
    demos.append(demo)
    demo.wait_for("ready")
    assert len(demo.left_behind()) >= 6
    demo.send(signal.SIGKILL)
    demo.finish()
    deadline = time.monotonic() + PATIENCE_S
    while demo.left_behind() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert demo.left_behind() == []


def test_demo_whose_ingest_dies_shows_the_end_of_its_log(home: Path, demos: list[RunningDemo]) -> None:
    demo = RunningDemo(home / "demo", "--devices", "20")
    demos.append(demo)
    demo.wait_for("ready")
    demo.child("ingest").kill()
    code, error = demo.finish()
    assert code == 1
    assert "ingest ended by itself with code -9" in error
    assert "ingest.log" in error
    assert demo.left_behind() == []


def test_demo_interrupted_while_it_starts_leaves_no_process_behind(home: Path, demos: list[RunningDemo]) -> None:
    demo = RunningDemo(home / "demo")
    demos.append(demo)
    deadline = time.monotonic() + PATIENCE_S
    while not (home / "demo" / "postgres").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    demo.send(signal.SIGINT)
    code, error = demo.finish()
    assert (code, error) == (130, "Stopped.\n")
    assert demo.left_behind() == []


@pytest.mark.parametrize("flag", ["--api-port", "--mqtt-port"])
def test_demo_on_a_busy_port_names_the_flag(home: Path, demos: list[RunningDemo], flag: str) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        demos.append(RunningDemo(home / "demo", flag, str(port)))
        error = sentence(demos[0])
    assert f"port {port}" in error
    assert flag in error


def test_demo_in_an_unwritable_folder_names_the_way_out(home: Path, demos: list[RunningDemo]) -> None:
    (home / "file").write_text("in the way")
    demos.append(RunningDemo(home / "file" / "demo"))
    error = sentence(demos[0])
    assert str(home / "file" / "demo") in error
    assert "--data-dir" in error


def assert_balanced(summary: dict[str, Any]) -> None:
    """Equal to the reading, in every domain, and every domain answers."""
    assert summary["balanced"]
    assert set(summary["per_domain"]) == DOMAINS
    for account in summary["per_domain"].values():
        assert account["received"] == account["published"] == account["stored"] + account["duplicate"]
        assert (account["imbalance"], account["quarantined"]) == (0, 0)
        assert account["rows"] == account["stored"] > 0
    assert all(rows > 0 for rows in summary["series"].values())


def assert_answered(client: Client) -> None:
    """What an analyst asks first: what there is, what the meters used, and whether it all adds up."""
    assert client.health().is_ready
    domains = client.domains()
    assert set(domains) == DOMAINS
    power = client.series("lighting", "power_w", start="-24h", window="1h", by="zone")
    assert power.meta.metrics[0].unit == domains["lighting"].metrics["power_w"].unit
    assert {bucket.zone for bucket in power} == set(power.to_polars()["zone"])
    assert all(bucket.samples > 0 for bucket in power)
    used = client.series("energy", "energy_import_kwh", start="-2d", window="1d", by="device")
    assert all((bucket.number() or 0) >= 0 for bucket in used)
    meters = {device.device_id for device in client.devices(domain="energy", page_size=20)}
    assert {bucket.device_id for bucket in used} == meters
    assert client.changes("energy", since=used.as_of).as_of >= used.as_of
    ledger = client.ledger()
    assert ledger.balanced
    assert set(ledger.domains) == DOMAINS


def command_s() -> float:
    """Seconds that a `telemetry` command that does nothing takes now; the start of a demo runs five that do."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "telemetry", "--help"], check=True, capture_output=True)
    return time.monotonic() - begun


def publish_to_visible_s(client: Client, mqtt_port: int, number: int) -> tuple[float, float]:
    """Seconds from the start of mosquitto_pub until the HTTP service shows the reading of a device of its own.

    And those of them that are none of the way of the reading: until mosquitto_pub had ended, and of the last question.
    They tell how slow the machine is.
    """
    domain = sorted(DOMAINS)[number % len(DOMAINS)]
    metric = {"energy": "active_power_w", "lighting": "power_w", "parking": "occupied_spots", "waste": "weight_kg"}
    device = f"probe-{number:03d}"
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(mqtt_port), "-q", "1", "-t", f"city/v1/{domain}/{device}"]
    begun = time.monotonic()
    subprocess.run([*command, "-m", json.dumps({metric[domain]: number})], check=True)
    published_s = time.monotonic() - begun
    while (asked := time.monotonic()) - begun < PATIENCE_S:
        if last_value(client, domain, device, metric[domain]) == number:
            ended = time.monotonic()
            return ended - begun, published_s + ended - asked
        time.sleep(0.01)
    raise AssertionError(f"the reading of {device} did not become visible")


def last_value(client: Client, domain: str, device: str, metric: str) -> float | bool | str | None:
    """What the service shows; None while the device is unknown, or registered and its reading not yet there."""
    try:
        (found,) = client.latest(domain, device=device, metric=metric)
    except InvalidParameter:
        return None
    return found.values[metric].value if metric in found.values else None
