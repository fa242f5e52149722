"""Many messages at once: put together beforehand, and published at QoS 1 as fast as the broker takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from telemetry.settings import Settings
from tests.support.packets import CONNECT, DISCONNECT, IN_FLIGHT, PACKET_IDS, Acknowledgements, publish_packet

PATIENCE_S = 180.0


async def flood(settings: Settings, messages: Sequence[tuple[str, bytes]]) -> None:
    """Publishes payloads to `{root}/{path}`; returns when the broker has acknowledged all of them."""
    root, total = settings.mqtt.topic_root, len(messages)
    loop = asyncio.get_running_loop()
    transport, publisher = await loop.create_connection(Acknowledgements, settings.mqtt.host, settings.mqtt.port)
    transport.write(CONNECT)
    sent = 0
    async with asyncio.timeout(PATIENCE_S):
        await publisher.connected.wait()
        while publisher.acknowledged < total:
            until = min(total, publisher.acknowledged + IN_FLIGHT, sent + 1_000)
            publisher.changed.clear()
            chunk = enumerate(messages[sent:until], sent)
            packets = [
                publish_packet(f"{root}/{path}".encode(), n % PACKET_IDS + 1, payload) for n, (path, payload) in chunk
            ]
            transport.write(b"".join(packets))
            if until == sent:
                await publisher.changed.wait()
                assert not transport.is_closing(), "the broker closed the connection"
            sent = until
            await asyncio.sleep(0)
    transport.write(DISCONNECT)
    transport.close()
