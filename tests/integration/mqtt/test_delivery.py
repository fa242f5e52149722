"""Every message to the end: settled, acknowledged once and in order, or delivered again."""

from __future__ import annotations

import asyncio

import pytest
from mqtt5 import DisconnectPacket, PubAckPacket, PubRecPacket

from telemetry.demo.mosquitto import LocalMosquitto
from tests.integration.mqtt.subscribing import PATIENCE_S, Publisher, Wire, listening, mqtt_settings, until
from tests.support.broker_fixtures import MosquittoFactory

pytestmark = pytest.mark.asyncio


def numbered(count: int, first: int = 0) -> list[int]:
    return list(range(first, first + count))


async def test_unsettled_messages_come_again_after_a_crash(mosquitto: LocalMosquitto, topic_root: str) -> None:
    settings = mqtt_settings(mosquitto, client_id=f"crash-{topic_root[-8:]}")
    async with listening(settings, topic_root) as before, Publisher(mosquitto, topic_root) as publisher:
        await publisher.publish(50)
        await before.received(50)
        before.subscriber.settle(0, 20)
        await before.acknowledged()
        await before.kill()
    async with listening(settings, topic_root, settle=True) as after:
        await after.received(30)
        assert after.payloads == before.payloads[20:]
        assert all(message.duplicate for message in after.messages)


async def test_acknowledgements_go_out_in_order_of_receipt_in_one_write(
    mosquitto: LocalMosquitto, topic_root: str
) -> None:
    async with Wire(mosquitto) as wire:
        # No ping may come between.
        settings = mqtt_settings(mosquitto, wire.port, client_id=f"order-{topic_root[-8:]}", keep_alive="10m")
        async with listening(settings, topic_root) as listener, Publisher(mosquitto, topic_root) as publisher:
            await publisher.publish(300)
            await listener.received(300)
            opened = len(wire.said[0])
            listener.subscriber.settle(200, 300)
            listener.subscriber.settle(100, 200)
            await asyncio.sleep(0.1)
            assert len(wire.said[0]) == opened
            listener.subscriber.settle(0, 100)
            await until(lambda: len(wire.said[0]) > opened)
            assert len(wire.said[0][opened]) == 300 * 4
            acks = [packet.packet_id for packet in wire.packets(0) if isinstance(packet, PubAckPacket)]
            assert acks == [message.packet_id for message in listener.messages]


async def test_messages_wait_for_a_subscriber_that_is_away(mosquitto: LocalMosquitto, topic_root: str) -> None:
    settings = mqtt_settings(mosquitto, client_id=f"away-{topic_root[-8:]}")
    async with Publisher(mosquitto, topic_root) as publisher:
        async with listening(settings, topic_root, settle=True) as first:
            await publisher.publish(5)
            await first.received(5)
        await publisher.publish(100)
        async with listening(settings, topic_root, settle=True) as second:
            await second.received(100)
            assert sorted(second.payloads) == numbered(100, 5)


async def test_close_waits_for_what_is_being_committed_and_acknowledges_it(
    mosquitto: LocalMosquitto, topic_root: str
) -> None:
    async with Wire(mosquitto) as wire, Publisher(mosquitto, topic_root) as publisher:
        settings = mqtt_settings(mosquitto, wire.port, client_id=f"close-{topic_root[-8:]}")
        async with listening(settings, topic_root) as listener:
            await publisher.publish(40)
            await listener.received(40)
            closing = asyncio.create_task(listener.close(grace_s=600))
            await asyncio.sleep(0.1)
            await publisher.publish(7)
            assert not closing.done()
            listener.subscriber.settle(0, 40)
            async with asyncio.timeout(PATIENCE_S):
                await closing
            assert len(listener.messages) == 40
        last = wire.packets(0)[-1]
        assert isinstance(last, DisconnectPacket)
        assert last.session_expiry_interval is None
        assert len([packet for packet in wire.packets(0) if isinstance(packet, PubAckPacket)]) == 40
        async with listening(settings, topic_root, settle=True) as after:
            await after.received(7)
            assert sorted(after.payloads) == numbered(7, 40)


async def test_close_does_not_wait_longer_than_its_grace(mosquitto: LocalMosquitto, topic_root: str) -> None:
    settings = mqtt_settings(mosquitto, client_id=f"grace-{topic_root[-8:]}")
    async with listening(settings, topic_root) as listener, Publisher(mosquitto, topic_root) as publisher:
        await publisher.publish(10)
        await listener.received(10)
        async with asyncio.timeout(PATIENCE_S):
            await listener.close(grace_s=0.2)
    async with listening(settings, topic_root, settle=True) as after:
        await after.received(10)


async def test_broker_restarted_in_order_loses_nothing(mosquitto_factory: MosquittoFactory, topic_root: str) -> None:
    broker = mosquitto_factory()
    async with listening(mqtt_settings(broker), topic_root) as listener:
        async with Publisher(broker, topic_root) as publisher:
            await publisher.publish(50)
        await listener.received(50)
        listener.subscriber.settle(0, 20)
        await listener.acknowledged()
        await asyncio.to_thread(broker.stop)
        # An acknowledgement counts once it is written: before the end of the stream is read, it still could be.
        await until(lambda: not listener.subscriber.stats.connected)
        listener.subscriber.settle(20, 50)
        await asyncio.to_thread(broker.start)
        await listener.connected(times=2)
        await listener.received(80)
        assert listener.payloads[50:] == listener.payloads[20:50]
        stats = listener.subscriber.stats
        assert (stats.reconnects, stats.sessions_lost, stats.in_flight) == (1, 0, 30)


async def test_session_lost_at_the_broker_is_counted(mosquitto_factory: MosquittoFactory, topic_root: str) -> None:
    broker = mosquitto_factory(options={"persistence": "false"})
    async with listening(mqtt_settings(broker), topic_root, settle=True) as listener:
        await asyncio.to_thread(broker.stop)
        await asyncio.to_thread(broker.start)
        await listener.connected(times=2)
        assert listener.subscriber.stats.sessions_lost == 1
        async with Publisher(broker, topic_root) as publisher:
            await publisher.publish(3)
        await listener.received(3)


async def test_qos_2_is_delivered_once_when_its_answer_is_lost(mosquitto: LocalMosquitto, topic_root: str) -> None:
    """The PUBRECs never reach the broker; it sends all messages again, and none of them is delivered again."""
    async with Wire(mosquitto) as wire:
        settings = mqtt_settings(mosquitto, wire.port, client_id=f"once-{topic_root[-8:]}", qos=2)
        async with listening(settings, topic_root, settle=True) as listener:
            wire.deaf = True
            async with Publisher(mosquitto, topic_root) as publisher:
                await publisher.publish(30, qos=2)
            await listener.received(30)
            await until(lambda: len([p for p in wire.packets(0) if isinstance(p, PubRecPacket)]) == 30)
            wire.cut()
            wire.deaf = False
            await listener.connected(times=2)
            await until(lambda: len([p for p in wire.packets(1) if isinstance(p, PubRecPacket)]) == 30)
            await asyncio.sleep(0.2)
            assert sorted(listener.payloads) == numbered(30)
        async with listening(settings, topic_root) as after:
            await asyncio.sleep(0.3)
            assert after.messages == []


async def test_qos_2_is_delivered_again_when_it_was_not_settled(mosquitto: LocalMosquitto, topic_root: str) -> None:
    async with Wire(mosquitto) as wire, Publisher(mosquitto, topic_root) as publisher:
        settings = mqtt_settings(mosquitto, wire.port, client_id=f"again-{topic_root[-8:]}", qos=2)
        async with listening(settings, topic_root) as listener:
            await publisher.publish(10, qos=2)
            await listener.received(10)
            wire.cut()
            await listener.connected(times=2)
            await listener.received(20)
            listener.subscriber.settle(0, 20)
            assert sorted(listener.payloads) == sorted(numbered(10) * 2)
            await until(lambda: len([p for p in wire.packets(1) if isinstance(p, PubRecPacket)]) == 10)
            assert not any(isinstance(p, PubRecPacket) for p in wire.packets(0))


async def test_qos_0_is_delivered_and_needs_no_answer(mosquitto: LocalMosquitto, topic_root: str) -> None:
    async with Wire(mosquitto) as wire, Publisher(mosquitto, topic_root) as publisher:
        settings = mqtt_settings(mosquitto, wire.port, client_id=f"zero-{topic_root[-8:]}")
        async with listening(settings, topic_root, settle=True) as listener:
            await publisher.publish(20, qos=0)
            await listener.received(20)
        assert not any(isinstance(p, PubAckPacket | PubRecPacket) for p in wire.packets(0))
