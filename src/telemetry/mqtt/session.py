"""One MQTT 5 session as a subscriber, without socket, clock or event loop: bytes in, messages and bytes out.

The rules
---------
Number.   Every message that is delivered gets the next sequence number, counted over all connections. Whoever takes
          the messages settles them in half-open ranges of numbers, as batches commit, in any order.
Frontier. The frontier is the first message that is not settled. Acknowledgements go out in order of receipt and only
          below the frontier, as MQTT demands of a receiver (section 4.6): a batch that commits before an earlier one
          moves nothing; the earlier one then moves the frontier over both at once. So at any moment the broker has
          seen acknowledgements for a prefix of what it sent, and a crash loses none of the rest: it is sent again.
Epoch.    Each connection is an epoch. Packet ids mean something only within one: after a reconnect the broker sends
          what it has no acknowledgement for again, and may by then have given an id to another message. An
          acknowledgement of an older epoch could therefore confirm a message that nobody has stored. Hence an epoch
          begins with everything older forgotten, and settling an old number does nothing: that message comes again
          under a new number, and the store recognises it as a duplicate.
Window.   The broker may have as many QoS 1 and 2 messages unacknowledged as the Receive Maximum says; this bounds
          memory. QoS 0 knows no window: beyond as many unsettled messages it is dropped, and counted.
QoS 2.    PUBREC is the acknowledgement that waits for the frontier; PUBREL is answered at once (`exactly_once.py`).
Errors.   Whatever the broker does wrong ends the connection with one sentence in `ended`, never with an exception.

Topic aliases are not offered (Topic Alias Maximum 0): to put the topic back into a packet of the codec costs more than
all the rest of this module, and saves a few bytes on a network that is not the bottleneck. See docs/adr/0003.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final

import structlog
from mqtt5 import (
    ConnAckPacket,
    ConnAckReasonCode,
    ConnectPacket,
    DisconnectPacket,
    DisconnectReasonCode,
    Packet,
    PingReqPacket,
    PingRespPacket,
    PubCompPacket,
    PubCompReasonCode,
    PublishPacket,
    PubRelPacket,
    QoS,
    RetainHandling,
    SubAckPacket,
    SubscribePacket,
    TopicFilter,
)

from telemetry.errors import ConfigurationError, TelemetryError, Unavailable
from telemetry.mqtt.acks import NOTHING, PUBACK, PUBREC, AckFrontier, encode
from telemetry.mqtt.exactly_once import ExactlyOnce
from telemetry.mqtt.faults import ProtocolError, disconnected, malformed, refused, unsubscribed, violation
from telemetry.mqtt.keep_alive import KeepAlive
from telemetry.mqtt.reader import PacketReader
from telemetry.mqtt.stats import SessionStats
from telemetry.settings import MqttSettings

log = structlog.get_logger()

ANSWER_WITHIN_S: Final = 10.0
"""How long the broker may take for its CONNACK and then for its SUBACK."""

_SUBSCRIBE_ID: Final = 1
_LONGEST_KEEP_ALIVE: Final = 65_535
_LONGEST_EXPIRY: Final = 0xFFFF_FFFF
_PINGREQ: Final = PingReqPacket().write()
_AT_MOST_ONCE: Final = QoS.AT_MOST_ONCE
_AT_LEAST_ONCE: Final = QoS.AT_LEAST_ONCE


class State(Enum):
    """Where a connection stands."""

    IDLE = "no connection"
    CONNECTING = "CONNECT sent"
    SUBSCRIBING = "CONNACK received, SUBSCRIBE sent"
    READY = "subscribed"
    ENDED = "over; the socket is to be closed"


_ALIVE: Final = frozenset({State.SUBSCRIBING, State.READY})


class Session:
    """The session over all its connections. `now` is always monotonic seconds.

    Args:
        settings: the broker and our session with it.
        filters: topic filters to subscribe to after each CONNACK.
        max_qos: the highest QoS at which messages may come.

    Attributes:
        state: where the present connection stands.
        ended: why it ended; None for an end of our own will.
        stats: the counters.
    """

    def __init__(self, settings: MqttSettings, filters: Sequence[str], max_qos: QoS = QoS.AT_LEAST_ONCE) -> None:
        self.state = State.IDLE
        self.ended: TelemetryError | None = None
        self.stats = SessionStats()
        self._settings = settings
        self._address = f"{settings.host}:{settings.port}"
        self._filters = tuple(filters)
        self._max_qos = max_qos
        self._reader = PacketReader()
        self._frontier = AckFrontier()
        self._exactly_once = ExactlyOnce()
        self._window = settings.receive_maximum
        self._known = False
        self._epoch = 0
        self._greeting = b""
        self._output: list[bytes] = []
        self._keep_alive = KeepAlive(self._own_keep_alive, 0.0)
        self._answer_by = math.inf

    @property
    def _own_keep_alive(self) -> int:
        return min(_LONGEST_KEEP_ALIVE, math.ceil(self._settings.keep_alive.total_seconds()))

    @property
    def unsettled(self) -> int:
        """Messages of this connection that wait to be settled and acknowledged."""
        return self._frontier.unsettled

    def connect(self, now: float) -> int:
        """Begins an epoch on a fresh connection; returns its number."""
        self._epoch += 1
        self.lost(self._epoch)
        self.ended = None
        self._reader = PacketReader()
        self._keep_alive = KeepAlive(self._own_keep_alive, now)
        self._window = self._settings.receive_maximum
        self._greeting = b""
        self._answer_by = now + ANSWER_WITHIN_S
        self.state = State.CONNECTING
        self._output.append(self._connect_packet().write())
        return self._epoch

    def lost(self, epoch: int) -> None:
        """The connection of an epoch is gone; nothing of it is acknowledged any more."""
        if epoch != self._epoch:
            return
        self.state = State.IDLE
        self.stats.connected = False
        self.stats.in_flight = 0
        self._frontier.begin_epoch()
        self._exactly_once.begin_epoch()
        self._output.clear()

    def disconnect(self, reason: DisconnectReasonCode = DisconnectReasonCode.NORMAL_DISCONNECTION) -> None:
        """Takes leave; the broker keeps the session for as long as CONNECT asked it to."""
        if self.state in _ALIVE:
            self._output.append(DisconnectPacket(reason_code=reason).write())
        self.state = State.ENDED
        self.stats.connected = False

    def receive(self, data: bytes, now: float) -> tuple[int, list[PublishPacket]]:
        """Takes what was read; returns the number of the first message in it, and the messages."""
        first = self._frontier.next
        messages: list[PublishPacket] = []
        if self.state is State.ENDED or self.state is State.IDLE:
            return first, messages
        self._keep_alive.heard(now)
        self.stats.bytes_received += len(data)
        if len(self._greeting) < 2:
            self._greeting += data[:2]
        try:
            self._take_all(self._reader.feed(data), messages, now)
            if self._reader.fault is not None:
                raise self._not_mqtt(self._reader.fault)
        except TelemetryError as error:
            self._end(error)
        self.stats.messages_received += len(messages)
        self.stats.in_flight = self._frontier.unsettled
        return first, messages

    def settle(self, first: int, end: int) -> None:
        """The messages [first, end) are settled; those of older connections are passed over.

        Raises:
            ValueError: one of them was never delivered.
        """
        words = self._frontier.settle(first, end)
        if self.state in _ALIVE and words:
            self._acknowledge(words)
            self.stats.in_flight = self._frontier.unsettled

    def listen(self, listening: bool, now: float) -> None:
        """Whether the socket is read; while it is not, the broker's silence proves nothing."""
        self._keep_alive.listen(listening, now)

    def tick(self, now: float) -> None:
        """Does what is due; to be called at `deadline()`."""
        if self.state in (State.CONNECTING, State.SUBSCRIBING) and now >= self._answer_by:
            awaited = "CONNECT" if self.state is State.CONNECTING else "SUBSCRIBE"
            self._end(Unavailable(f"{self._address} has not answered our {awaited} within {ANSWER_WITHIN_S:.0f} s"))
        elif self.state in _ALIVE and self._keep_alive.is_dead(now):
            self._end(Unavailable(f"the broker at {self._address} has fallen silent; not even a PINGRESP came"))
        elif self.state in _ALIVE and self._keep_alive.wants_ping(now):
            self._output.append(_PINGREQ)

    def deadline(self) -> float:
        """When `tick` is to be called next."""
        waiting = self.state in (State.CONNECTING, State.SUBSCRIBING)
        return min(self._keep_alive.deadline(), self._answer_by if waiting else math.inf)

    def output(self, now: float) -> bytes:
        """The bytes to send now; they are handed out once."""
        if not self._output:
            return b""
        data = b"".join(self._output)
        self._output.clear()
        self._keep_alive.sent(now)
        return data

    def _take_all(self, packets: Sequence[Packet], messages: list[PublishPacket], now: float) -> None:
        deliver, alive = messages.append, self.state in _ALIVE
        for packet in packets:
            if alive and type(packet) is PublishPacket:
                if self._accept(packet):
                    deliver(packet)
            else:
                self._handle(packet, now)
                alive = self.state in _ALIVE

    def _accept(self, packet: PublishPacket) -> bool:
        """Checks and numbers a message; whether it is delivered. This runs once per message and is kept short."""
        topic = packet.topic
        if "\0" in topic:
            raise malformed("a topic contains the character U+0000")
        if packet.topic_alias is not None:
            raise ProtocolError(DisconnectReasonCode.TOPIC_ALIAS_INVALID, "a topic alias was used, and we allow none")
        if "#" in topic or "+" in topic:
            raise ProtocolError(DisconnectReasonCode.TOPIC_NAME_INVALID, f"the topic {topic!r} contains a wildcard")
        if packet.qos is not _AT_LEAST_ONCE:
            return self._accept_other(packet)
        packet_id = packet.packet_id
        if not packet_id:
            raise violation("a PUBLISH has the packet id 0")
        self._take_window()
        self._frontier.push(PUBACK | packet_id)
        return True

    def _accept_other(self, packet: PublishPacket) -> bool:
        if packet.qos is _AT_MOST_ONCE:
            return self._accept_at_most_once(packet)
        packet_id = packet.packet_id
        if not packet_id:
            raise violation("a PUBLISH has the packet id 0")
        if not self._exactly_once.holds_window(packet_id):
            self._take_window()
        if self._exactly_once.is_new(packet_id, packet.duplicate):
            self._frontier.push(PUBREC | packet_id)
            return True
        self._frontier.repeat(PUBREC | packet_id)
        self._acknowledge(self._frontier.due())
        return False

    def _accept_at_most_once(self, packet: PublishPacket) -> bool:
        if packet.duplicate:
            raise malformed("a PUBLISH of QoS 0 has the DUP flag")
        if self._frontier.unsettled >= self._settings.receive_maximum:
            self.stats.qos0_dropped += 1
            return False
        self._frontier.push(NOTHING)
        return True

    def _take_window(self) -> None:
        if self._window == 0:
            raise ProtocolError(
                DisconnectReasonCode.RECEIVE_MAX_EXCEEDED,
                f"more than {self._settings.receive_maximum} messages (mqtt.receive_maximum) are unacknowledged",
            )
        self._window -= 1

    def _acknowledge(self, words: Any) -> None:
        data = encode(words)
        count = len(data) // 4
        self._window += count - self._exactly_once.acknowledge(words)
        self.stats.acked += count
        self._output.append(data)

    def _handle(self, packet: Packet, now: float) -> None:
        handler = _HANDLERS.get(type(packet))
        name = type(packet).__name__.removesuffix("Packet").upper()
        if handler is None:
            raise violation(f"{name} is nothing that a subscriber without extended authentication may get")
        if (self.state is State.CONNECTING) is not (type(packet) is ConnAckPacket):
            raise violation(f"{name} came while we were here: {self.state.value}")
        handler(self, packet, now)

    def _on_connack(self, packet: ConnAckPacket, now: float) -> None:
        if packet.reason_code is not ConnAckReasonCode.SUCCESS:
            raise refused(packet, self._address)
        self._keep_alive.obey(packet.server_keep_alive)
        self._resume(packet)
        self.state = State.SUBSCRIBING
        self._answer_by = now + ANSWER_WITHIN_S
        subscribe = self._subscribe_packet().write()
        if packet.max_packet_size is not None and len(subscribe) > packet.max_packet_size:
            raise ConfigurationError(
                f"the broker at {self._address} takes packets of {packet.max_packet_size} bytes, and our "
                f"subscription has {len(subscribe)}; raise its limit"
            )
        self._output.append(subscribe)

    def _resume(self, packet: ConnAckPacket) -> None:
        """Finds out whether our session is still there, and counts the connection."""
        if not packet.session_present:
            self._exactly_once.forget()
            if self._known:
                self.stats.sessions_lost += 1
                log.warning(
                    "mqtt_session_lost",
                    detail="The broker no longer knows our session; what it held for us is gone.",
                    broker=self._address,
                    client_id=self._settings.client_id,
                )
        expiry = packet.session_expiry_interval
        if expiry is not None and expiry < self._session_expiry:
            log.warning(
                "mqtt_session_expiry_reduced",
                detail=f"The broker keeps our session for {expiry} s only, not for {self._session_expiry} s.",
                broker=self._address,
            )
        self.stats.reconnects += self.stats.connections > 0
        self.stats.connections += 1
        self._known = True

    def _on_suback(self, packet: SubAckPacket, now: float) -> None:
        if self.state is not State.SUBSCRIBING or packet.packet_id != _SUBSCRIBE_ID:
            raise violation(f"SUBACK for {packet.packet_id}, a subscription that we did not ask for")
        if fault := unsubscribed(packet.reason_codes, self._filters, self._address):
            raise fault
        self.state = State.READY
        self.stats.connected = True

    def _on_pubrel(self, packet: PubRelPacket, now: float) -> None:
        packet_id = packet.packet_id
        if not packet_id:
            raise violation("a PUBREL has the packet id 0")
        if self._exactly_once.is_too_early(packet_id):
            raise violation(f"PUBREL for {packet_id} came before our PUBREC")
        known = self._exactly_once.release(packet_id)
        self._window += self._exactly_once.complete(packet_id)
        reason = PubCompReasonCode.SUCCESS if known else PubCompReasonCode.PACKET_ID_NOT_FOUND
        self._output.append(PubCompPacket(packet_id, reason_code=reason).write())

    def _on_pingresp(self, packet: PingRespPacket, now: float) -> None:
        """That it came is noted like everything that comes."""

    def _on_disconnect(self, packet: DisconnectPacket, now: float) -> None:
        if packet.session_expiry_interval is not None:
            raise violation("DISCONNECT of a broker has a session expiry interval")
        # Who was disconnected says nothing any more.
        self.state = State.ENDED
        raise disconnected(packet, self._address, self._settings.client_id)

    def _end(self, error: TelemetryError) -> None:
        self.ended = error
        if isinstance(error, ProtocolError):
            self.stats.protocol_errors += 1
            self.disconnect(error.reason)
        else:
            self.disconnect()

    def _not_mqtt(self, fault: str) -> TelemetryError:
        if self.state is State.CONNECTING and self._greeting.startswith(b"\x20\x02"):
            return ConfigurationError(
                f"the broker at {self._address} answers in MQTT 3; mqtt.host must name a broker that speaks MQTT 5"
            )
        return malformed(fault)

    @property
    def _session_expiry(self) -> int:
        return min(_LONGEST_EXPIRY, math.ceil(self._settings.session_expiry.total_seconds()))

    def _connect_packet(self) -> ConnectPacket:
        password = self._settings.password
        return ConnectPacket(
            self._settings.client_id,
            username=self._settings.username,
            password=None if password is None else password.get_secret_value().encode(),
            clean_start=False,
            keep_alive=self._own_keep_alive,
            session_expiry_interval=self._session_expiry,
            receive_max=self._settings.receive_maximum,
        )

    def _subscribe_packet(self) -> SubscribePacket:
        """Retained messages are wanted once per session, not after each reconnect."""
        return SubscribePacket(
            _SUBSCRIBE_ID,
            [
                TopicFilter(name, max_qos=self._max_qos, retain_handling=RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS)
                for name in self._filters
            ],
        )


_HANDLERS: Final[dict[type, Callable[[Session, Any, float], None]]] = {
    ConnAckPacket: Session._on_connack,
    SubAckPacket: Session._on_suback,
    PubRelPacket: Session._on_pubrel,
    PingRespPacket: Session._on_pingresp,
    DisconnectPacket: Session._on_disconnect,
}
