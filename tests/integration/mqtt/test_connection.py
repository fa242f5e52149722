"""The connection: refused, taken over, cut, frozen, flooded, encrypted."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest
import uvloop
from mqtt5 import (
    ConnAckPacket,
    DisconnectPacket,
    DisconnectReasonCode,
    PingReqPacket,
    PublishPacket,
    QoS,
    SubAckPacket,
    SubAckReasonCode,
)
from structlog.testing import capture_logs
from structlog.typing import EventDict

from telemetry.demo.mosquitto import LocalMosquitto, free_port
from telemetry.errors import ConfigurationError
from telemetry.mqtt import subscriber as subscriber_module
from telemetry.mqtt.backoff import Backoff
from telemetry.mqtt.connection import REST_S, Connection
from telemetry.mqtt.oversize import Message
from telemetry.mqtt.subscriber import Subscriber
from telemetry.settings import MqttSettings
from tests.integration.mqtt.subscribing import PATIENCE_S, Listener, Publisher, Wire, listening, mqtt_settings, until
from tests.support.broker_fixtures import MosquittoFactory

CONNACK = ConnAckPacket(session_present=True).write()
SMALL = 16_384
"""Bytes of a socket's buffer."""
SUBACK = SubAckPacket(1, [SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]).write()


@pytest.fixture
def said() -> Iterator[list[EventDict]]:
    """What is logged during the test."""
    with capture_logs() as entries:
        yield entries


def last_error(said: Sequence[EventDict]) -> str:
    """Why the last connection or attempt ended; nothing where none did."""
    details = [str(each["detail"]) for each in said if each["event"] == "mqtt_disconnected"]
    return details[-1] if details else ""


@pytest.mark.asyncio
async def test_pause_under_load_keeps_the_connection_and_loses_nothing(
    mosquitto: LocalMosquitto, topic_root: str
) -> None:
    """Longer than until either side gives a silent one up, while the broker has more than it can send."""
    async with Wire(mosquitto) as wire, Publisher(mosquitto, topic_root) as publisher:
        # A ping every 4.5 s, and patience for 7.5 s on either side: on a busy machine, a ping may be late.
        settings = mqtt_settings(mosquitto, wire.port, client_id=f"pause-{topic_root[-8:]}", keep_alive="5s")
        async with listening(settings, topic_root, settle=True) as listener:
            now = asyncio.get_running_loop().time
            before = now()
            listener.subscriber.pause()
            began = now()
            publishing = asyncio.create_task(publisher.publish(5000))
            await until(lambda: len([p for p in wire.packets(0) if isinstance(p, PingReqPacket)]) >= 2)
            assert listener.messages == []
            ended = now()
            listener.subscriber.resume()
            after = now()
            stats = listener.subscriber.stats
            await until(lambda: listener.messages != [])
            assert stats.connections == 1
            await publishing
            await until(lambda: set(listener.payloads) == set(range(5000)))
            # On a busy machine the connection may be lost later, and then messages come again.
            assert len(listener.messages) == 5000 or stats.connections > 1
            assert ended - began <= stats.paused_seconds <= after - before


@pytest.mark.asyncio
async def test_pause_outlasts_a_reconnect(mosquitto: LocalMosquitto, topic_root: str) -> None:
    async with Wire(mosquitto) as wire, Publisher(mosquitto, topic_root) as publisher:
        settings = mqtt_settings(mosquitto, wire.port, client_id=f"outlast-{topic_root[-8:]}", keep_alive="1s")
        async with listening(settings, topic_root, settle=True) as listener:
            listener.subscriber.pause()
            wire.cut()
            # Who does not read notices the loss with the next ping.
            await listener.connected(times=2)
            await publisher.publish(10)
            await asyncio.sleep(0.3)
            assert listener.messages == []
            listener.subscriber.resume()
            await listener.received(10)


@pytest.mark.asyncio
@pytest.mark.parametrize("paused", [True, False])
async def test_pause_and_resume_in_the_middle_of_connecting_count(
    mosquitto: LocalMosquitto, topic_root: str, monkeypatch: pytest.MonkeyPatch, paused: bool
) -> None:
    """The connection is made, and the subscriber has not taken it over yet; with TLS this lasts for a handshake."""
    async with Wire(mosquitto) as wire, Publisher(mosquitto, topic_root) as publisher:
        settings = mqtt_settings(mosquitto, wire.port, client_id=f"amid-{topic_root[-8:]}", keep_alive="1s")
        async with listening(settings, topic_root, settle=True) as listener:
            subscriber = listener.subscriber
            made = Connection.connection_made

            def meanwhile(connection: Connection, transport: asyncio.BaseTransport) -> None:
                monkeypatch.setattr(Connection, "connection_made", made)
                made(connection, transport)
                (subscriber.pause if paused else subscriber.resume)()

            monkeypatch.setattr(Connection, "connection_made", meanwhile)
            (subscriber.resume if paused else subscriber.pause)()
            wire.cut()
            await listener.connected(times=2)
            await publisher.publish(10)
            if paused:
                await asyncio.sleep(0.3)
                assert listener.messages == []
                subscriber.resume()
            await listener.received(10)


@pytest.mark.asyncio
async def test_half_open_connection_is_noticed_and_replaced(
    mosquitto: LocalMosquitto, topic_root: str, said: list[EventDict]
) -> None:
    async with Wire(mosquitto) as wire, Publisher(mosquitto, topic_root) as publisher:
        settings = mqtt_settings(mosquitto, wire.port, client_id=f"half-{topic_root[-8:]}", keep_alive="1s")
        async with listening(settings, topic_root, settle=True) as listener:
            wire.frozen = True
            await until(lambda: last_error(said) != "")
            assert "has fallen silent" in last_error(said)
            wire.frozen = False
            await listener.connected(times=2)
            await publisher.publish(10)
            await until(lambda: set(listener.payloads) == set(range(10)))


@pytest.mark.asyncio
async def test_idle_connection_is_kept_by_pings(mosquitto: LocalMosquitto, topic_root: str) -> None:
    """Without them it would end after 1.5 s, on our side at the latest; on a busy machine, a ping may be late."""
    settings = mqtt_settings(mosquitto, client_id=f"idle-{topic_root[-8:]}", keep_alive="1s")
    async with listening(settings, topic_root) as listener, asyncio.timeout(PATIENCE_S):
        seen: Connection | None = None
        while seen is None or seen is not listener.subscriber._connection:
            seen = listener.subscriber._connection
            await asyncio.sleep(3.5)


@pytest.fixture
def guarded(mosquitto_factory: MosquittoFactory, tmp_path: Path) -> LocalMosquitto:
    """A broker with one user, reader."""
    passwords = tmp_path / "passwd"
    passwords.touch()
    subprocess.run(["mosquitto_passwd", "-b", passwords, "reader", "right"], check=True, capture_output=True)
    return mosquitto_factory(options={"allow_anonymous": "false", "password_file": str(passwords)})


@pytest.mark.asyncio
@pytest.mark.parametrize(("user", "password"), [("reader", "wrong"), ("nobody", "right"), (None, None)])
async def test_wrong_credentials_halt_and_name_the_setting(
    guarded: LocalMosquitto, topic_root: str, user: str | None, password: str | None
) -> None:
    listener = Listener(mqtt_settings(guarded, username=user, password=password), topic_root)
    with pytest.raises(ConfigurationError, match=r"refuses us: .*; see mqtt\.username and mqtt\.password"):
        await listener.connected()


@pytest.mark.asyncio
async def test_right_credentials_are_welcome(guarded: LocalMosquitto, topic_root: str) -> None:
    async with listening(mqtt_settings(guarded, username="reader", password="right"), topic_root):
        pass


@pytest.mark.asyncio
async def test_refused_subscription_halts_and_names_the_filter(
    mosquitto_factory: MosquittoFactory, topic_root: str, tmp_path: Path
) -> None:
    """By the plugin for dynamic security: with an acl_file Mosquitto grants every subscription, and sends nothing."""
    plugin = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)
    if plugin is None:
        pytest.skip("Mosquitto is installed here without its plugin for dynamic security")
    rights = tmp_path / "rights.json"
    rights.write_text(json.dumps({"defaultACLAccess": {"subscribe": False}}))
    broker = mosquitto_factory(options={"plugin": str(plugin), "plugin_opt_config_file": str(rights)})
    listener = Listener(mqtt_settings(broker), topic_root)
    sentence = rf"the subscription to {topic_root}/# \(not authorized, 0x87\); see mqtt\.username"
    with pytest.raises(ConfigurationError, match=sentence):
        await listener.connected()


@pytest.mark.asyncio
async def test_takeover_is_told_and_not_fought_over(said: list[EventDict]) -> None:
    connected = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(CONNACK + SUBACK)
        await connected.wait()
        writer.write(DisconnectPacket(reason_code=DisconnectReasonCode.SESSION_TAKEN_OVER).write())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        listener = Listener(MqttSettings(host="127.0.0.1", port=server.sockets[0].getsockname()[1]), "x")
        await listener.connected()
        connected.set()
        await until(lambda: "as telemetry-ingest and taken our session" in last_error(said))
        await asyncio.sleep(2)
        assert listener.subscriber.stats.connections == 1
        async with asyncio.timeout(20):  # it would connect again after 30 s at the earliest
            await listener.close()


@pytest.mark.asyncio
async def test_two_processes_with_one_client_id_on_a_broker_that_says_nothing(
    mosquitto: LocalMosquitto, topic_root: str, said: list[EventDict]
) -> None:
    """Mosquitto 2.0 closes the older connection without DISCONNECT 0x8E: the backoff must calm the two down."""
    settings = mqtt_settings(mosquitto, client_id=f"twins-{topic_root[-8:]}")
    twins = [Listener(settings, topic_root) for _ in range(2)]
    await asyncio.sleep(5)
    stats = [twin.subscriber.stats for twin in twins]
    assert sum(each.connections for each in stats) < 40
    told = f"that uses {settings.client_id} as its mqtt.client_id"
    await until(lambda: told in last_error(said) and all(each.reconnects for each in stats))
    for twin in twins:
        await twin.close()


@pytest.mark.asyncio
async def test_broker_that_is_away_is_waited_for(topic_root: str, tmp_path: Path, said: list[EventDict]) -> None:
    broker = LocalMosquitto(tmp_path, port=free_port())
    listener = Listener(mqtt_settings(broker), topic_root)
    try:
        await until(lambda: "cannot be reached" in last_error(said))
        await asyncio.to_thread(broker.start)
        await listener.connected()
        await listener.close()
    finally:
        await listener.kill()
        await asyncio.to_thread(broker.stop)


@pytest.mark.asyncio
async def test_close_while_the_broker_is_away_is_prompt(topic_root: str, said: list[EventDict]) -> None:
    listener = Listener(MqttSettings(host="127.0.0.1", port=free_port()), topic_root)
    listener.subscriber._backoff = Backoff(600.0, 600.0, floor=600.0)
    await until(lambda: last_error(said) != "")
    async with asyncio.timeout(20):
        await listener.close()


@pytest.mark.asyncio
async def test_what_the_consumer_raises_ends_the_run(mosquitto: LocalMosquitto, topic_root: str) -> None:
    def deliver(first: int, messages: list[Message]) -> None:
        raise ZeroDivisionError("a bug in the consumer")

    settings = mqtt_settings(mosquitto, client_id=f"bug-{topic_root[-8:]}")
    subscriber = Subscriber(settings, [f"{topic_root}/#"], deliver)
    running = asyncio.create_task(subscriber.run())
    await until(lambda: subscriber.stats.connected)
    async with Publisher(mosquitto, topic_root) as publisher:
        await publisher.publish(1)
    with pytest.raises(ZeroDivisionError, match="a bug in the consumer"):
        await asyncio.wait_for(running, PATIENCE_S)


@pytest.mark.asyncio
async def test_what_is_no_broker_is_left_again_and_again(said: list[EventDict]) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        with suppress(OSError):
            await reader.read()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        listener = Listener(MqttSettings(host="127.0.0.1", port=port), "x")
        await until(lambda: listener.subscriber.stats.protocol_errors >= 2)
        assert "no packet begins with the byte 0x53" in last_error(said)
        await listener.close()


class Flood:
    """A peer that sends messages without end, minds no window, and may not read what it is told."""

    MESSAGES = b"".join(
        PublishPacket("a", b"", qos=QoS.AT_LEAST_ONCE, packet_id=packet_id).write() for packet_id in range(1, 60_000)
    )

    def __init__(self, *, reads: bool) -> None:
        self._reads = reads
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        if not self._reads:
            # Else the system would take megabytes of what nobody reads, a few bytes at a time.
            self._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._write(writer)))
        if self._reads:
            self._tasks.add(asyncio.create_task(self._read(reader)))

    async def _write(self, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(CONNACK + SUBACK)
            while True:
                writer.write(self.MESSAGES)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while await reader.read(1 << 16):
                pass


async def _settled_down(listener: Listener) -> int:
    """Waits until no more messages come, and returns how many came."""
    before = -1
    while len(listener.messages) > before:
        before = len(listener.messages)
        await asyncio.sleep(0.5)
    return before


@pytest.mark.asyncio
async def test_broker_that_sends_more_than_it_may_fills_no_more_than_the_window_and_one_read() -> None:
    async with Flood(reads=True) as flood:
        listener = Listener(MqttSettings(host="127.0.0.1", port=flood.port, receive_maximum=1000), "x")
        await listener.connected()
        await until(lambda: len(listener.messages) > 1000)
        count = await _settled_down(listener)
        assert 1000 < count <= 1000 + max(len(read) for read in listener.reads)
        assert listener.subscriber.stats.window_overruns > 0
        listener.subscriber.settle(0, count)
        await until(lambda: len(listener.messages) > count)
        await listener.close(0)


@pytest.mark.asyncio
async def test_broker_that_does_not_take_acknowledgements_is_not_read_for_ever(said: list[EventDict]) -> None:
    """Everything is settled at once; what bounds us is that the acknowledgements cannot go out."""
    async with Flood(reads=False) as flood:
        listener = Listener(MqttSettings(host="127.0.0.1", port=flood.port, keep_alive="4s"), "x", settle=True)
        await listener.connected()
        connection = listener.subscriber._connection
        assert connection is not None
        assert connection._transport is not None
        connection._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        await until(lambda: connection._congested)
        await _settled_down(listener)
        assert listener.subscriber.stats.connections == 1
        assert connection._transport.get_write_buffer_size() < 1 << 20
        # A broker that takes nothing from us for so long is as good as dead.
        await until(lambda: "fallen silent" in last_error(said))
        await listener.kill()


@pytest.mark.asyncio
async def test_small_reads_are_followed_by_a_rest(mosquitto: LocalMosquitto, topic_root: str) -> None:
    """However the messages trickle in, we wake up once in a while and not for each of them."""
    settings = mqtt_settings(mosquitto, client_id=f"rest-{topic_root[-8:]}")
    async with listening(settings, topic_root, settle=True) as listener, Publisher(mosquitto, topic_root) as publisher:
        begun = time.monotonic()
        await publisher.publish(2000)
        await listener.received(2000)
        assert len(listener.reads) <= (time.monotonic() - begun) / REST_S + 1


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_either_event_loop_will_do(
    mosquitto: LocalMosquitto, topic_root: str, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def scenario() -> None:
        async with Wire(mosquitto) as wire, Publisher(mosquitto, topic_root) as publisher:
            settings = mqtt_settings(mosquitto, wire.port, client_id=f"loop-{topic_root[-8:]}")
            async with listening(settings, topic_root) as listener:
                await publisher.publish(500)
                await listener.received(500)
                listener.subscriber.pause()
                await publisher.publish(100)
                await asyncio.sleep(0.1)
                assert len(listener.messages) == 500
                listener.subscriber.settle(0, 500)
                listener.subscriber.resume()
                await listener.received(600)
                listener.subscriber.settle(500, 600)
                wire.cut()
                await listener.connected(times=2)
                await publisher.publish(1)
                await until(lambda: 600 in listener.payloads)
                listener.subscriber.settle(600, len(listener.messages))
                await listener.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder with ca.pem, server.pem and server.key for localhost, and an authority other.pem that signed nothing."""
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl, which makes the certificates of this test, is not installed")
    tmp_path.chmod(0o755)

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    for name in ("ca", "other"):
        subject = ("-subj", f"/CN={name}", "-days", "2", "-nodes")
        openssl("req", "-x509", "-newkey", "rsa:2048", "-keyout", f"{name}.key", "-out", f"{name}.pem", *subject)
    openssl(
        "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=broker"
    )
    (tmp_path / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.pem", *signed)
    return tmp_path


@pytest.fixture
def encrypted(mosquitto_factory: MosquittoFactory, certificates: Path) -> LocalMosquitto:
    """A broker that speaks TLS only."""
    options = {name: str(certificates / f"server.{end}") for name, end in (("certfile", "pem"), ("keyfile", "key"))}
    return mosquitto_factory(options=options)


@pytest.mark.asyncio
async def test_tls_with_the_right_authority(encrypted: LocalMosquitto, certificates: Path, topic_root: str) -> None:
    tls = {"enabled": True, "ca_file": certificates / "ca.pem"}
    async with listening(mqtt_settings(encrypted, tls=tls), topic_root) as listener:
        await listener.close()


@pytest.mark.asyncio
async def test_tls_with_the_wrong_authority_is_named(
    encrypted: LocalMosquitto, certificates: Path, topic_root: str, said: list[EventDict]
) -> None:
    tls = {"enabled": True, "ca_file": certificates / "other.pem"}
    listener = Listener(mqtt_settings(encrypted, tls=tls), topic_root)
    await until(lambda: last_error(said) != "")
    assert "mqtt.tls" in last_error(said)
    await listener.close()


@pytest.mark.asyncio
async def test_backoff_begins_anew_after_a_connection_that_lasted(
    mosquitto: LocalMosquitto, topic_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "STABLE_AFTER_S", 0.2)
    async with Wire(mosquitto) as wire:
        settings = mqtt_settings(mosquitto, wire.port, client_id=f"stable-{topic_root[-8:]}")
        with capture_logs() as logs:
            async with listening(settings, topic_root) as listener:
                for times in range(2, 12):
                    await asyncio.sleep(0.25)
                    wire.cut()
                    await listener.connected(times)
                assert listener.subscriber.stats.reconnects == 10
        assert [each for each in logs if each["event"] == "mqtt_disconnected" and each["retry_s"] > 0.1] == []
