"""A proxy spoils the connection to the broker or to the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.faults.publisher import Publisher
from tests.faults.scene import Scene, loaded
from tests.support.proxy import Proxy

RATE = 1_000.0
Spoil = Callable[[Proxy], None]

SPOILED: dict[str, Spoil] = {
    "cut": Proxy.cut,
    "blackholed": Proxy.blackhole,
    "half-open, ours left": lambda proxy: proxy.half_open("client"),
    "half-open, theirs left": lambda proxy: proxy.half_open("server"),
    "slow": lambda proxy: proxy.slow(0.05),
}
SLOW_TO_NOTICE = {("database", "blackholed"), ("database", "half-open, ours left")}
"""A server that says nothing is given up after a minute only: it may be at work."""

CASES = [
    pytest.param(side, how, marks=[] if how == "cut" else [pytest.mark.long])
    for side in ("broker", "database")
    for how in SPOILED
]


def target(scene: Scene, side: str) -> int:
    """The port of the real server."""
    port = urlsplit(scene.settings.database.url.get_secret_value()).port
    assert port is not None
    return scene.settings.mqtt.port if side == "broker" else port


def by(scene: Scene, side: str, port: int) -> dict[str, Any]:
    """The setting that leads ingest through the proxy."""
    if side == "database":
        return {"database__url": scene.through(port)}
    # A network that swallows everything is to be missed soon.
    return {"mqtt__port": port, "mqtt__keep_alive": "2s"}


@pytest.mark.asyncio
@pytest.mark.parametrize(("side", "how"), CASES)
async def test_connection_that_is_spoiled_loses_nothing(scene: Scene, side: str, how: str) -> None:
    times = 1 if (side, how) in SLOW_TO_NOTICE else 3
    async with (
        Proxy(target(scene, side)) as proxy,
        Publisher(scene.settings) as publisher,
        scene.ingesting(**by(scene, side, proxy.port)),
    ):
        async with loaded(publisher, RATE if times > 1 else RATE / 4):
            for _ in range(times):
                await scene.grown(300)
                SPOILED[how](proxy)
                await asyncio.sleep(0.5 if how == "cut" else 3)
                proxy.heal()
            await scene.grown(300)
        await scene.settled(publisher)
    (await scene.account(f"connection to the {side} {how}", publisher, f"{times} times")).assert_kept()
