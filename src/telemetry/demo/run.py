"""`telemetry demo`: a whole city, from the lamp to the answered question, with one command."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from datetime import timedelta
from typing import Final

import asyncpg

from telemetry.demo import accounts
from telemetry.demo.accounts import Accounts, Totals
from telemetry.demo.folder import DemoFolder
from telemetry.demo.meter import Meter
from telemetry.demo.options import DemoOptions
from telemetry.demo.process import ProcessDied
from telemetry.demo.published import PublishedLog
from telemetry.demo.services import Services, services
from telemetry.demo.summary import Summary, series_rows, summarise
from telemetry.demo.view import JsonView, Status, TerminalView, View
from telemetry.demo.welcome import welcome
from telemetry.errors import Unavailable
from telemetry.settings import PREFIX
from telemetry.simulate.city import SEED, city
from telemetry.simulate.publisher import QUARTER

PAST: Final = timedelta(days=2)
"""How much of the past the first start fills in, and later ones complete."""

INTERRUPTED: Final = 130
_SHOWN_S: Final = 1.0
_OFTEN_S: Final = 0.25
_STANDSTILL_S: Final = 20.0


def run(options: DemoOptions) -> int:
    """Runs the demo until its duration is over or Ctrl-C; everything that it started has ended afterwards.

    Returns:
        0 when every reading is accounted for and every domain answers; 1 when not, or when one of the processes ended
        by itself, which is told with the end of its log; 130 when stopped during the start.

    Raises:
        ConfigurationError: a port, a program or the folder is not as needed; the sentence says what to do.
    """
    # A demo is a world of its own: the settings of a real service in the environment must not reach it.
    for variable in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[variable]
    view: View = JsonView() if options.json_status else TerminalView()
    try:
        return asyncio.run(Demo(options, view).run())
    except (ProcessDied, Unavailable) as error:
        view.fail(str(error))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError) as error:
        view.fail(f"The demo's PostgreSQL does not answer any more: {error}")
    return 1


class Demo:
    """One run of the demo."""

    def __init__(self, options: DemoOptions, view: View) -> None:
        self._options = options
        self._view = view
        self._folder = DemoFolder(options.data_dir)
        self._fleet = city(options.devices)
        self._domains = sorted({device.domain for device in self._fleet})
        self._stop = asyncio.Event()
        self._begun = time.monotonic()
        self._next_shown = 0.0
        self._lives = False

    async def run(self) -> int:
        """Start, city, summary; the first Ctrl-C ends the city, one during the start or a second one everything."""
        work = asyncio.create_task(self._work())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._interrupt, work)
        try:
            return await work
        except asyncio.CancelledError:
            self._view.say("Stopped.")
            return INTERRUPTED

    def _interrupt(self, work: asyncio.Task[int]) -> None:
        if self._stop.is_set() or not self._lives:
            work.cancel()
        self._stop.set()

    async def _work(self) -> int:
        with self._folder.locked():
            self._view.title(f"A simulated city, its data in {self._folder.path}")
            async with services(self._options, self._folder, self._fleet, self._view) as running:
                summary = await self._city(running)
            self._view.summary(summary)
        return 0 if summary.is_balanced and summary.is_complete else 1

    async def _city(self, running: Services) -> Summary:
        """Lets the city publish, and closes the accounts."""
        await accounts.settled(running.database)
        before = await accounts.accounts(running.database, self._domains)
        past = await accounts.missing_past(running.database, self._fleet, PAST)
        await self._simulate(running, past)
        published = PublishedLog(self._folder.log("simulate"))
        meter = Meter(running, before, published)
        self._lives = True
        await self._fill_in_the_past(running, meter, published)
        if not self._is_over(meter):
            self._view.ready(await welcome(running, self._folder, time.monotonic() - self._begun))
        while not self._is_over(meter):
            await self._look(running, meter)
        return await self._close(running, meter, before, published)

    async def _simulate(self, running: Services, past: timedelta) -> None:
        await running.start(
            "simulate",
            "simulate",
            *("--devices", str(self._options.devices)),
            *("--rate", str(self._options.rate)),
            *("--seed", str(SEED)),
            *("--backfill", f"{past.total_seconds():.0f}s"),
        )

    async def _fill_in_the_past(self, running: Services, meter: Meter, published: PublishedLog) -> None:
        with self._view.step("Filling in the past") as result:
            while not self._is_over(meter):
                status = await self._look(running, meter, _OFTEN_S)
                if published.phase == "live" and status.received >= published.backfill_total:
                    result["done"] = self._past_text(published.backfill_total)
                    return
            result["done"] = "The past is not complete; the next start goes on with it"

    def _past_text(self, readings: int) -> str:
        if not readings:
            return "The past is complete already"
        hours = QUARTER * (readings / len(self._fleet)) / timedelta(hours=1)
        return f"The past {hours:,.4g} hours of the city: {readings:,} readings"

    async def _close(self, running: Services, meter: Meter, before: Accounts, published: PublishedLog) -> Summary:
        """First the simulator stops, then ingest drains, then the accounts are compared and each domain is asked."""
        await running.stop("simulate")
        await self._drain(running, meter, before, published)
        await running.stop("ingest")
        series = await series_rows(running.api_url, self._domains)
        after = await accounts.accounts(running.database, self._domains)
        return summarise(published.per_domain, before, after, series, meter.elapsed_s)

    async def _drain(self, running: Services, meter: Meter, before: Accounts, published: PublishedLog) -> None:
        """Waits until the ledger has all that was published, or stands still for too long."""
        patience, received = time.monotonic() + _STANDSTILL_S, -1
        while time.monotonic() < patience:
            running.require_alive()
            status = await meter.read(draining=True)
            self._show(status)
            ledger = await accounts.ledger(running.database)
            if all(
                ledger.get(domain, Totals()).received - before.of(domain)[0].received >= number
                for domain, number in published.per_domain.items()
            ):
                return
            if status.received != received:
                patience, received = time.monotonic() + _STANDSTILL_S, status.received
            await asyncio.sleep(_OFTEN_S)

    async def _look(self, running: Services, meter: Meter, every_s: float = _SHOWN_S) -> Status:
        """One look at everything; then a pause that the stop cuts short."""
        running.require_alive()
        status = await meter.read()
        self._show(status)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), every_s)
        return status

    def _show(self, status: Status) -> None:
        if time.monotonic() >= self._next_shown:
            self._next_shown = time.monotonic() + _SHOWN_S * 0.95
            self._view.status(status)

    def _is_over(self, meter: Meter) -> bool:
        duration = self._options.duration
        return self._stop.is_set() or (duration is not None and meter.elapsed_s >= duration.total_seconds())
