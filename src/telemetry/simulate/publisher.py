"""The city publishing: first what its gateways missed, then live.

Backfill stands at full quarters of an hour, one message being a day of one device, as a gateway sends it that catches
up after an outage. Whoever starts a city again asks for the gap only; overlapping is harmless, because the same quarter
of the same device is the same reading and ends as a duplicate.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

import structlog

from telemetry.settings import MqttSettings, Settings
from telemetry.simulate.city import SEED, city
from telemetry.simulate.device import SimulatedDevice
from telemetry.simulate.gateway import Gateway, Outgoing, probe
from telemetry.simulate.profiles import encode

log = structlog.get_logger()

QUARTER: Final = timedelta(minutes=15)
BATCH: Final = 96
"""Readings in one message of the backfill: a day."""

_TICK_S: Final = 0.02
_CATCH_UP_S: Final = 1.0
_REPORT_S: Final = 1.0
_GRACE_S: Final = 15.0
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass
class Published:
    """What the broker has acknowledged, by domain; exact, for comparison with the ledger.

    Attributes:
        repeated: messages sent more than once because a connection was lost; each may be a duplicate in the ledger.
        abandoned: messages begun and never acknowledged, because the broker was away at the end.
    """

    messages: Counter[str] = field(default_factory=Counter)
    readings: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    abandoned: int = 0

    def count(self, message: Outgoing) -> None:
        """Counts an acknowledged message."""
        self.messages[message.domain] += 1
        self.readings[message.domain] += message.readings

    def as_dict(self) -> dict[str, Any]:
        """For logs and JSON."""
        return {
            "messages": sum(self.messages.values()),
            "readings": sum(self.readings.values()),
            "per_domain": dict(sorted(self.readings.items())),
            "repeated": self.repeated,
            "abandoned": self.abandoned,
        }


async def run(
    settings: Settings,
    *,
    devices: int = 2_000,
    rate: float = 200.0,
    seed: int = SEED,
    backfill: timedelta = timedelta(0),
    duration: timedelta | None = None,
    stop: asyncio.Event | None = None,
) -> Published:
    """Publishes a simulated city to the broker of the settings until stopped.

    Args:
        devices: size of the city.
        rate: live messages per second, of all devices together; 0 ends after the backfill.
        backfill: how far back the quarters of an hour before now are published first.
        duration: how long to publish, backfill included; None is until `stop`.

    Raises:
        Unavailable: the broker is away at the start. Later the gateways wait for it.
        ConfigurationError: the broker refuses us.
    """
    await probe(settings.mqtt)
    publishing = _Publishing(settings.mqtt, city(devices, seed))
    running = [asyncio.create_task(gateway.run()) for gateway in publishing.gateways.values()]
    try:
        await _until(publishing.everything(backfill, rate), stop or asyncio.Event(), duration, running)
        with suppress(TimeoutError):
            await asyncio.wait_for(publishing.settle(running), _GRACE_S)
    finally:
        for task in running:
            task.cancel()
    published = publishing.outcome()
    log.info("simulate_done", detail="The city has stopped publishing.", **published.as_dict())
    return published


def backfill_times(until: datetime, backfill: timedelta) -> list[datetime]:
    """The full quarters of an hour in (until - backfill, until]."""
    width = QUARTER.total_seconds()
    first, last = (int(moment.timestamp() // width) for moment in (until - backfill, until))
    return [datetime.fromtimestamp(quarter * width, UTC) for quarter in range(first + 1, last + 1)]


class _Publishing:
    """One run: the fleet behind its gateways, one for each zone, and what they have published so far."""

    def __init__(self, settings: MqttSettings, fleet: Sequence[SimulatedDevice]) -> None:
        self._root = settings.topic_root
        self._fleet = fleet
        self._published = Published()
        self._handed_over = 0
        self._last: dict[str, datetime] = {}
        self._next_report = 0.0
        zones = sorted({device.zone for device in fleet})
        self.gateways = {zone: Gateway(settings, zone, self._published.count) for zone in zones}

    async def everything(self, backfill: timedelta, rate: float) -> None:
        """The backfill, then live readings at the rate, without end unless the rate is 0."""
        await self._backfill(backfill_times(datetime.now(UTC), backfill))
        if rate > 0 and self._fleet:
            await self._live(rate)

    async def settle(self, running: Iterable[asyncio.Task[None]]) -> None:
        """Waits until everything that was handed over is acknowledged."""
        for gateway in self.gateways.values():
            await gateway.close()
        await asyncio.gather(*running)

    def outcome(self) -> Published:
        """The counts, with what was never acknowledged."""
        self._published.repeated = sum(gateway.repeated for gateway in self.gateways.values())
        self._published.abandoned = self._handed_over - self._published.messages.total()
        return self._published

    async def _backfill(self, times: Sequence[datetime]) -> None:
        total = len(times) * len(self._fleet)
        # Day by day for the whole city, so that an interruption leaves every device with the same past.
        for start in range(0, len(times), BATCH):
            for device in self._fleet:
                await self._publish(device, times[start : start + BATCH])
                self._report("backfill", total=total)
        if total:
            log.info("simulate_backfilled", detail="The past is handed over.", total=total)

    async def _live(self, rate: float) -> None:
        """Devices take turns in a fixed shuffled order; a rate that the broker cannot take is an upper bound."""
        order = list(self._fleet)
        Random(0).shuffle(order)  # noqa: S311
        begun, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - begun) * rate)
            if due - sent > rate * _CATCH_UP_S + 1:
                begun, sent, due = time.monotonic(), 0, 1
            for turn in range(sent, due):
                device = order[turn % len(order)]
                await self._publish(device, [self._now(device)])
            sent = due
            self._report("live", rate=rate)
            await asyncio.sleep(_TICK_S)

    async def _publish(self, device: SimulatedDevice, times: Sequence[datetime]) -> None:
        topic = f"{self._root}/{device.domain}/{device.device_id}"
        message = Outgoing(topic, encode(device, times), device.domain, len(times))
        await self.gateways[device.zone].put(message)
        self._handed_over += 1

    def _now(self, device: SimulatedDevice) -> datetime:
        """The time to the millisecond, later than the device's last one."""
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        last = self._last.get(device.device_id)
        if last is not None and now <= last:
            now = last + _MILLISECOND
        self._last[device.device_id] = now
        return now

    def _report(self, phase: str, **facts: float) -> None:
        if time.monotonic() >= self._next_report:
            self._next_report = time.monotonic() + _REPORT_S
            log.info("simulate_progress", phase=phase, **facts, **self._published.as_dict())


async def _until(
    work: Coroutine[Any, Any, None],
    stop: asyncio.Event,
    duration: timedelta | None,
    running: Iterable[asyncio.Task[None]],
) -> None:
    """Runs the work until it ends, the stop is called, the time is up or one of the running tasks fails."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait(
        [working, stopping, *running],
        timeout=duration.total_seconds() if duration else None,
        return_when=asyncio.FIRST_COMPLETED,
    )
    for task in (working, stopping):
        task.cancel()
    await asyncio.gather(working, stopping, return_exceptions=True)
    for finished in done:
        finished.result()
