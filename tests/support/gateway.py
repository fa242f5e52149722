"""A gateway for tests: aiomqtt, the independent client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt

from telemetry.settings import Settings

PATIENCE_S = 120.0


class Gateway:
    """Publishes to the topics of the settings; a message counts once the broker has it, at QoS 0 once it is sent."""

    def __init__(self, client: aiomqtt.Client, root: str) -> None:
        self._client = client
        self._root = root
        self.published = 0

    async def send(self, path: str, payload: Any, qos: int = 1) -> None:
        """Publishes to `{root}/{path}`: bytes as they are, everything else as JSON."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        await self._client.publish(f"{self._root}/{path}", body, qos=qos)
        self.published += 1


@asynccontextmanager
async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """A connected gateway."""
    async with aiomqtt.Client(settings.mqtt.host, settings.mqtt.port, timeout=PATIENCE_S) as client:
        yield Gateway(client, settings.mqtt.topic_root)


async def forget_session(settings: Settings, client_id: str) -> None:
    """Makes the broker forget a session, and what it holds for it."""
    async with aiomqtt.Client(
        settings.mqtt.host,
        settings.mqtt.port,
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=True,
        timeout=PATIENCE_S,
    ):
        pass
