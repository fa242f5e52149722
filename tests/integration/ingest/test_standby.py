"""Two processes of one name: whoever lost its way to the database leaves the session to the one that took over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from telemetry.demo import http
from telemetry.demo.server import free_port
from telemetry.ingest import service
from telemetry.settings import Settings
from tests.integration.ingest.test_former_sessions import leave_behind
from tests.support.gateway import gateway
from tests.support.ingesting import PATIENCE_S, is_subscribed, outcomes, received
from tests.support.proxy import Proxy
from tests.support.supervised import until


def with_spool(settings: Settings, directory: Path | None, after: timedelta = timedelta(minutes=1)) -> Settings:
    """The same with a spool there.

    A database that takes longer than `after` to answer counts as away, and who does not hear from it that another
    process has the name takes the session.
    """
    spool = settings.spool.model_copy(update={"directory": directory, "after": after})
    return settings.model_copy(update={"spool": spool})


def through(settings: Settings, proxy: Proxy) -> Settings:
    """The same with the database behind a proxy."""
    url = settings.database.url.get_secret_value()
    url = url.replace(f":{urlsplit(url).port}/", f":{proxy.port}/")
    return settings.model_copy(update={"database": settings.database.model_copy(update={"url": SecretStr(url)})})


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[asyncio.Event]:
    """Ingest runs in this process, for as long as the event is not set and the block runs."""
    stop = asyncio.Event()
    task = asyncio.create_task(service.run(settings, stop))
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(task, PATIENCE_S)


class Load:
    """A gateway that publishes one reading after the other."""

    def __init__(self, settings: Settings) -> None:
        self.published = 0
        self._settings = settings
        self._going = True

    async def run(self) -> None:
        """Publishes until told to end."""
        start = datetime.now(UTC) - timedelta(hours=1)
        async with gateway(self._settings) as sender:
            while self._going:
                moment = (start + timedelta(milliseconds=self.published)).isoformat()
                await sender.send("waste/bin", {"time": moment, "fill_level_pct": 5})
                self.published += 1
                await asyncio.sleep(0.02)

    def end(self) -> None:
        """No more."""
        self._going = False


@pytest.mark.asyncio
@pytest.mark.parametrize("spooled", [True, False], ids=["spool", "none"])
async def test_process_that_lost_only_its_own_way_leaves_the_session_to_its_standby(
    settings: Settings, connection: asyncpg.Connection, tmp_path: Path, spooled: bool
) -> None:
    """What it acknowledged meanwhile reaches the database while the other one goes on."""
    places = tmp_path / "first", tmp_path / "second"
    for place in places:
        place.mkdir()
    first = with_spool(settings, places[0] if spooled else None, timedelta(seconds=5))
    second = with_spool(settings, places[1] if spooled else None)
    load = Load(settings)
    async with Proxy(urlsplit(settings.database.url.get_secret_value()).port or 0) as proxy:
        with capture_logs() as said:
            async with running(through(first, proxy)):
                await until(connection, "SELECT count(*) FROM ingest_sessions WHERE answered", lambda n: n == 1)
                loading = asyncio.create_task(load.run())
                await until(connection, "SELECT count(*) FROM waste_readings", lambda rows: rows > 20)
                proxy.blackhole()
                proxy.cut()
                if spooled:
                    file = places[0] / f"{settings.mqtt.client_id}.sqlite"
                    await comes(file.exists)
                async with running(second) as stop:
                    await asyncio.sleep(4)
                    proxy.heal()
                    await comes(lambda: any(each["event"] == "ingest_replaced" for each in said))
                    await comes(lambda: any(each["event"] == "ingest_stopped" for each in said))
                    # The other one may have been thrown out last, and waits a little before it returns: what is
                    # published from now on is stored when it has.
                    so_far = load.published
                    await until(connection, "SELECT count(*) FROM waste_readings", lambda rows: rows > so_far)
                    before = reconnections(said)
                    await asyncio.sleep(4)
                    load.end()
                    await loading
                    await until(connection, "SELECT count(*) FROM waste_readings", lambda rows: rows == load.published)
                    assert reconnections(said) == before
                    await comes(lambda: not list(places[0].glob("*.sqlite")))
                    stop.set()
                # It takes the session again when the other one has ended.
                async with gateway(settings) as sender:
                    await sender.send("lighting/lamp", {"power_w": 1.0})
                await until(connection, "SELECT count(*) FROM lighting_readings", lambda rows: rows == 1)
    found = await outcomes(connection)
    assert found["stored"] == load.published + 1
    assert found["received"] == found["stored"] + found["duplicate"]


@pytest.mark.asyncio
async def test_spool_of_a_standby_is_drained_while_it_stands_by(
    settings: Settings, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    """What it acknowledged before it was stopped does not wait for the end of the other one."""
    file = leave_behind(tmp_path, settings, settings.mqtt.client_id)
    async with running(settings):
        await until(connection, "SELECT count(*) FROM ingest_sessions WHERE answered", lambda n: n == 1)
        with capture_logs() as said:
            async with running(with_spool(settings, tmp_path)):
                assert await received(connection, 5) == {"received": 5, "stored": 5}
                await comes(lambda: any(each["event"] == "stands_by" for each in said))
                await comes(lambda: not file.exists())
    assert reconnections(said) == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_standby_that_takes_over_says_so_and_not_that_the_database_was_away(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    port = free_port()
    shown = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"metrics_port": port})})
    url = f"http://127.0.0.1:{port}"
    async with running(settings) as stop:
        await until(connection, "SELECT count(*) FROM ingest_sessions WHERE answered", lambda n: n == 1)
        with capture_logs() as said:
            async with running(shown):
                await comes(lambda: any(each["event"] == "stands_by" for each in said))
                page = await http.get(f"{url}/metrics", within_s=PATIENCE_S) or ""
                assert http.metric(page, "telemetry_ingest_standby") == 1
                assert http.metric(page, "telemetry_ingest_mqtt_connected") == 0
                assert await http.get(f"{url}/readyz", within_s=PATIENCE_S) is not None
                stop.set()
                await comes(lambda: any(each["event"] == "takes_over" for each in said))
                async with asyncio.timeout(PATIENCE_S):
                    while not await is_subscribed(f"{url}/metrics"):
                        await asyncio.sleep(0.1)
                page = await http.get(f"{url}/metrics", within_s=PATIENCE_S) or ""
                assert http.metric(page, "telemetry_ingest_standby") == 0
    assert {each["event"] for each in said} & {"database_away", "database_back"} == set()


async def comes(happened: Callable[[], bool]) -> None:
    """Waits until it has happened."""
    async with asyncio.timeout(PATIENCE_S):
        while not happened():
            await asyncio.sleep(0.05)


def reconnections(said: Sequence[Mapping[str, object]]) -> int:
    """How often anybody connected to the broker."""
    return sum(each["event"] == "mqtt_connected" for each in said)
