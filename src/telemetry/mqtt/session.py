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
Window.   The broker may have as many QoS 1 and 2 messages unacknowledged as the Receive Maximum says. A broker that
          sends more is not thrown out, because Mosquitto 2.0 does so under load; instead nothing more is read while
          more is unsettled than that, so memory is bounded by the Receive Maximum and one read. QoS 0 knows no
          window: beyond as many unsettled messages it is dropped, and counted.
Size.     No Maximum Packet Size is named, for a broker drops what exceeds it without a word. Of a payload beyond what
          is wanted the beginning is held, and the rest passes by (`oversize.py`); it is delivered like any other.
Counters. What the broker says of itself (`$SYS/…`) is asked for by a second SUBSCRIBE, once the first one is granted: a
          broker that refuses it, or even leaves us for it, costs us the counters and no message. It comes at QoS 0, is
          taken out before it would get a number, and is never delivered (`drops.py`).
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
    DisconnectPacket,
    DisconnectReasonCode,
    Packet,
    PingReqPacket,
    PingRespPacket,
    PublishPacket,
    PubRelPacket,
    SubAckPacket,
    UnsubAckPacket,
)

from telemetry.errors import ConfigurationError, TelemetryError, Unavailable
from telemetry.mqtt.drops import BrokerDrops
from telemetry.mqtt.faults import ProtocolError, disconnected, malformed, refused, violation
from telemetry.mqtt.keep_alive import KeepAlive
from telemetry.mqtt.opening import connect_packet, keep_alive_s, session_expiry_s
from telemetry.mqtt.oversize import LONGEST, Message, Oversize
from telemetry.mqtt.reader import PacketReader
from telemetry.mqtt.receiver import Receiver
from telemetry.mqtt.stats import SessionStats
from telemetry.mqtt.subscriptions import Subscriptions
from telemetry.settings import MqttSettings

log = structlog.get_logger()

ANSWER_WITHIN_S: Final = 10.0
"""How long the broker may take for its CONNACK and then for its SUBACK."""

_PINGREQ: Final = PingReqPacket().write()
_CONNACK_OF_MQTT_3: Final = b"\x20\x02"


class State(Enum):
    """Where a connection stands."""

    IDLE = "not connected"
    CONNECTING = "waiting for CONNACK"
    SUBSCRIBING = "waiting for SUBACK"
    READY = "subscribed"
    ENDED = "about to close the socket"


class Session:
    """The session over all its connections. `now` is always monotonic seconds.

    Args:
        settings: the broker and our session with it.
        filters: topic filters to subscribe to after each CONNACK; none only takes what the broker holds.
        counters: topic filters of what the broker says that it dropped; it may refuse them.
        stale: topic filters of former times, to be ended after each CONNACK.
        known: whether the broker had the session in former times, so that it is lost if the broker does not know it.
        keep: bytes of a payload that are wanted.

    Attributes:
        drops: what these counters tell.
        state: where the present connection stands.
        ended: why the last one ended; None where it was our own will or the network's.
        stats: the counters.
    """

    def __init__(
        self,
        settings: MqttSettings,
        filters: Sequence[str],
        *,
        counters: Sequence[str] = (),
        stale: Sequence[str] = (),
        known: bool = False,
        keep: int = LONGEST,
    ) -> None:
        self.state = State.IDLE
        self.ended: TelemetryError | None = None
        self.stats = SessionStats()
        self._settings = settings
        self._address = f"{settings.host}:{settings.port}"
        self._subscriptions = Subscriptions(settings, filters, counters, stale, self.stats)
        self.drops = BrokerDrops(counters)
        self._output: list[bytes] = []
        self._receiver = Receiver(settings.receive_maximum, self.stats, self._output, self.drops)
        self._keep = keep
        self._reader = PacketReader(keep)
        self._keep_alive = KeepAlive(keep_alive_s(settings), 0.0)
        self._epoch = 0
        self._known = known
        self._greeting = b""
        self._pings = 0
        self.pings_answered = 0
        self._answer_by = math.inf

    @property
    def unsettled(self) -> int:
        """Messages of this connection that wait to be settled and acknowledged."""
        return self._receiver.unsettled

    @property
    def is_overrun(self) -> bool:
        """Whether the broker has sent more than it may, so that reading must wait until some of it is settled."""
        return self._receiver.is_overrun

    def connect(self, now: float) -> int:
        """Begins an epoch on a fresh connection; returns its number."""
        self._epoch += 1
        self.lost(self._epoch)
        self.ended = None
        self._reader = PacketReader(self._keep)
        self._keep_alive = KeepAlive(keep_alive_s(self._settings), now)
        self._greeting = b""
        self._pings = self.pings_answered = 0
        self._answer_by = now + ANSWER_WITHIN_S
        self.state = State.CONNECTING
        self._output.append(connect_packet(self._settings).write())
        return self._epoch

    def lost(self, epoch: int) -> None:
        """The connection of an epoch is gone."""
        if epoch != self._epoch:
            return
        self.state = State.IDLE
        self.stats.connected = False
        self._receiver.begin_epoch()
        self._output.clear()
        self._subscriptions.connection_lost()

    def disconnect(self, reason: DisconnectReasonCode = DisconnectReasonCode.NORMAL_DISCONNECTION) -> None:
        """Takes leave; the broker keeps the session for as long as CONNECT asked it to."""
        if self._accepted:
            self._output.append(DisconnectPacket(reason_code=reason).write())
        self.state = State.ENDED
        self.stats.connected = False
        # Nothing may follow a DISCONNECT, so what is settled from now on is settled too late.
        self._receiver.begin_epoch()

    def receive(self, data: bytes, now: float) -> tuple[int, list[Message]]:
        """Takes what was read; returns the number of the first message in it, and the messages."""
        first = self._receiver.next
        messages: list[Message] = []
        if self.state is State.ENDED or self.state is State.IDLE:
            return first, messages
        self._keep_alive.heard(now)
        self.stats.bytes_received += len(data)
        if self.state is State.CONNECTING:
            self._greeting = (self._greeting + data[:2])[:2]
        try:
            self._take(self._reader.feed(data), messages, now)
            if self._reader.fault is not None:
                raise self._not_mqtt(self._reader.fault)
        except TelemetryError as error:
            self._end(error)
        self.stats.messages_received += len(messages)
        self.stats.in_flight = self._receiver.unsettled
        return first, messages

    def settle(self, first: int, end: int) -> None:
        """The messages [first, end) are settled; those of older connections are passed over.

        Raises:
            ValueError: one of them was never delivered.
        """
        self._receiver.settle(first, end)

    def listen(self, listening: bool, now: float) -> None:
        """Whether the socket is read; while it is not, the broker's silence proves nothing."""
        self._keep_alive.listen(listening, now)

    def tick(self, now: float) -> None:
        """Does what is due; to be called at `deadline()`."""
        if self._waiting and now >= self._answer_by:
            missing = "CONNECT" if self.state is State.CONNECTING else "SUBSCRIBE"
            self._end(Unavailable(f"{self._address} has not answered our {missing} for {ANSWER_WITHIN_S:.0f} s"))
        elif self._accepted and self._keep_alive.is_dead(now):
            self._end(Unavailable(f"the broker at {self._address} has fallen silent; not even a PINGRESP came"))
        elif self._accepted and self._keep_alive.wants_ping(now):
            self.ping()

    def ping(self) -> int:
        """Asks the broker for a sign of life; `pings_answered` reaches the number returned when it has come.

        The broker answers in order: what it had sent us before is received by then. To be called while we are
        subscribed.
        """
        self._output.append(_PINGREQ)
        self._pings += 1
        return self._pings

    def deadline(self) -> float:
        """When `tick` is to be called next; never, when there is no connection."""
        silence = self._keep_alive.deadline() if self._accepted else math.inf
        return min(silence, self._answer_by if self._waiting else math.inf)

    def output(self, now: float) -> bytes:
        """The bytes to send now; they are handed out once."""
        if not self._output:
            return b""
        data = b"".join(self._output)
        self._output.clear()
        self._keep_alive.sent(now)
        return data

    @property
    def _waiting(self) -> bool:
        return self.state is State.CONNECTING or self.state is State.SUBSCRIBING

    @property
    def _accepted(self) -> bool:
        return self.state is State.SUBSCRIBING or self.state is State.READY

    def _take(self, packets: Sequence[Packet | Oversize], messages: list[Message], now: float) -> None:
        accept, deliver, accepted = self._receiver.accept, messages.append, self._accepted
        for packet in packets:
            if accepted and type(packet) is PublishPacket:
                if accept(packet):
                    deliver(packet)
            elif isinstance(packet, Oversize):
                self._take_oversize(packet, messages, now)
            else:
                self._handle(packet, now)
                accepted = self._accepted

    def _take_oversize(self, message: Oversize, messages: list[Message], now: float) -> None:
        if not self._accepted:
            self._handle(message.packet, now)
        elif self._receiver.accept(message.packet):
            messages.append(message)

    def _handle(self, packet: Packet, now: float) -> None:
        handler = _HANDLERS.get(type(packet))
        name = type(packet).__name__.removesuffix("Packet").upper()
        if handler is None:
            raise violation(f"{name} while we were {self.state.value}")
        if (self.state is State.CONNECTING) is not (handler is Session._on_connack):
            raise violation(f"{name} while we were {self.state.value}")
        handler(self, packet, now)

    def _on_connack(self, packet: ConnAckPacket, now: float) -> None:
        if packet.reason_code is not ConnAckReasonCode.SUCCESS:
            raise refused(packet, self._address)
        if packet.authentication_method is not None:
            raise violation("CONNACK with an authentication method, and we had named none")
        self._keep_alive.obey(packet.server_keep_alive)
        self._resume(packet)
        question = self._subscriptions.ask(packet.max_packet_size)
        if not question:
            self._begin()
            return
        self.state = State.SUBSCRIBING
        self._answer_by = now + ANSWER_WITHIN_S
        self._output.append(question)

    def _resume(self, packet: ConnAckPacket) -> None:
        """Finds out whether our session is still there, and counts the connection."""
        if not packet.session_present:
            self._receiver.forget()
            if self._known:
                self.stats.sessions_lost += 1
                log.warning(
                    "mqtt_session_lost",
                    detail="The broker no longer knows our session: what it held for us is gone.",
                    broker=self._address,
                    client_id=self._settings.client_id,
                )
        wanted, granted = session_expiry_s(self._settings), packet.session_expiry_interval
        if granted is not None and granted < wanted:
            log.warning(
                "mqtt_session_expiry_reduced",
                detail=f"The broker keeps our messages for {granted} s when we are away, not for {wanted} s.",
                broker=self._address,
            )
        log.info("mqtt_connected", broker=self._address, session_present=packet.session_present)
        self.stats.reconnects += self.stats.connections > 0
        self.stats.connections += 1
        self._known = True

    def _on_suback(self, packet: SubAckPacket, now: float) -> None:
        if self._subscriptions.granted(packet, self.state is State.SUBSCRIBING):
            self._begin()

    def _begin(self) -> None:
        """We have the subscriptions that we want."""
        self.state = State.READY
        self.stats.connected = True
        self._output += self._subscriptions.ask_rest()

    def _on_unsuback(self, packet: UnsubAckPacket, now: float) -> None:
        self._subscriptions.ended(packet, self.state is State.READY)

    def _on_pubrel(self, packet: PubRelPacket, now: float) -> None:
        self._receiver.release(packet)

    def _on_pingresp(self, packet: PingRespPacket, now: float) -> None:
        self.pings_answered += 1

    def _on_disconnect(self, packet: DisconnectPacket, now: float) -> None:
        if packet.session_expiry_interval is not None:
            raise violation("DISCONNECT of a broker with a session expiry interval")
        # To a broker that has taken leave nothing is said any more.
        self.state = State.ENDED
        error = disconnected(packet, self._address, self._settings.client_id)
        if self._subscriptions.awaits_counters and isinstance(error, ConfigurationError):
            # Our own topics were granted, so it is for the counters that we are thrown out; without them we may stay.
            raise Unavailable(str(error))
        raise error

    def _end(self, error: TelemetryError) -> None:
        self.ended = error
        if isinstance(error, ProtocolError):
            self.stats.protocol_errors += 1
            self.disconnect(error.reason)
        else:
            self.disconnect()

    def _not_mqtt(self, fault: str) -> TelemetryError:
        if self.state is State.CONNECTING and self._greeting == _CONNACK_OF_MQTT_3:
            return ConfigurationError(
                f"the broker at {self._address} answers in MQTT 3; mqtt.host must name a broker that speaks MQTT 5"
            )
        return malformed(fault)


_HANDLERS: Final[dict[type, Callable[[Session, Any, float], None]]] = {
    ConnAckPacket: Session._on_connack,
    SubAckPacket: Session._on_suback,
    UnsubAckPacket: Session._on_unsuback,
    PubRelPacket: Session._on_pubrel,
    PingRespPacket: Session._on_pingresp,
    DisconnectPacket: Session._on_disconnect,
}
