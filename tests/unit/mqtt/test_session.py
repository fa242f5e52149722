"""What the session does beyond the letter of the specification."""

from __future__ import annotations

import pytest
from mqtt5 import ConnAckPacket, ConnAckReasonCode, DisconnectPacket, PingRespPacket
from structlog.testing import capture_logs

from telemetry.errors import Unavailable
from telemetry.mqtt.session import State
from tests.unit.mqtt.far_side import Q0, Q2, FarSide, ended, publish, settings


@pytest.fixture
def far() -> FarSide:
    """A session that is connected and subscribed, with a Receive Maximum of 20."""
    side = FarSide()
    side.connect()
    side.said()
    return side


def many(first: int, count: int) -> list[bytes]:
    return [publish(packet_id) for packet_id in range(first, first + count)]


def test_session_numbers_messages_over_all_connections(far: FarSide) -> None:
    assert far.numbers(*many(1, 3)) == range(3)
    assert far.numbers(publish(qos=Q0), publish(9, qos=Q2)) == range(3, 5)
    far.reconnect()
    assert far.numbers(*many(1, 2)) == range(5, 7)


def test_session_numbers_no_message_that_it_does_not_deliver(far: FarSide) -> None:
    far.settle(far.numbers(publish(5, qos=Q2)))
    first, second = publish(1), publish(2)
    assert far.numbers(first, publish(5, qos=Q2, duplicate=True), second) == range(1, 3)


def test_session_never_acknowledges_a_message_of_an_older_connection(far: FarSide) -> None:
    """The same packet id now belongs to another message, which nobody has stored."""
    old = far.numbers(publish(1, b"old"))
    far.reconnect()
    new = far.numbers(publish(1, b"new"))
    far.settle(old)
    assert far.said() == []
    far.settle(new)
    assert far.heard() == [("PUBACK", 1)]


def test_session_settles_nothing_between_two_connections(far: FarSide) -> None:
    numbers = far.numbers(*many(1, 3))
    far.session.lost(far.epoch)
    far.settle(numbers)
    assert far.said() == []


def test_session_late_loss_of_an_older_connection_leaves_the_new_one_alone(far: FarSide) -> None:
    older = far.epoch
    far.reconnect()
    far.session.lost(older)
    assert far.session.state is State.READY


def test_session_joins_the_acknowledgements_of_a_range(far: FarSide) -> None:
    far.settle(far.numbers(*many(1, 20)))
    assert far.session.output(far.now) == b"".join(b"\x40\x02\x00" + bytes([packet_id]) for packet_id in range(1, 21))
    assert far.session.output(far.now) == b""


def test_session_counts(far: FarSide) -> None:
    data = b"".join([*many(1, 3), publish(qos=Q0)])
    before = far.session.stats.bytes_received
    numbers = far.numbers(data)
    stats = far.session.stats
    assert (stats.messages_received, stats.bytes_received - before, stats.in_flight) == (4, len(data), 4)
    far.settle(numbers[:2])
    assert stats.in_flight == 2
    far.reconnect()
    assert (stats.connections, stats.reconnects, stats.sessions_lost, stats.in_flight) == (2, 1, 0, 0)


def test_session_drops_and_counts_qos_0_beyond_the_bound(far: FarSide) -> None:
    numbers = far.numbers(*[publish(qos=Q0)] * 25)
    assert len(numbers) == 20
    assert far.session.stats.qos0_dropped == 5
    far.settle(numbers)
    assert len(far.numbers(publish(qos=Q0))) == 1
    assert far.said() == []


def test_session_full_of_qos_0_still_takes_what_is_acknowledged(far: FarSide) -> None:
    far.receive(*[publish(qos=Q0)] * 25)
    assert len(far.receive(*many(1, 20))) == 20
    assert far.session.ended is None


def test_session_lost_at_the_broker_is_an_alarm(far: FarSide) -> None:
    with capture_logs() as logs:
        far.reconnect(session_present=False)
    assert far.session.stats.sessions_lost == 1
    (alarm,) = [line for line in logs if line["event"] == "mqtt_session_lost"]
    assert alarm["log_level"] == "warning"
    assert alarm["client_id"] == "telemetry-ingest"


def test_session_new_at_a_first_connection_is_no_alarm() -> None:
    with capture_logs() as logs:
        FarSide().connect(ConnAckPacket(session_present=False))
    assert [line["event"] for line in logs] == ["mqtt_connected"]


def test_session_kept_for_a_shorter_time_than_asked_is_told() -> None:
    with capture_logs() as logs:
        FarSide().connect(ConnAckPacket(session_expiry_interval=3600))
    (warning,) = [line for line in logs if line["event"] == "mqtt_session_expiry_reduced"]
    assert warning["detail"] == "The broker keeps our messages for 3600 s when we are away, not for 604800 s."


def test_session_messages_before_an_error_are_delivered(far: FarSide) -> None:
    """They are not acknowledged and come again; but a QoS 0 message among them would not."""
    assert len(far.receive(publish(qos=Q0), publish(1), b"\x00\x00", publish(2))) == 2
    assert far.session.state is State.ENDED


def test_session_acknowledges_nothing_after_its_end(far: FarSide) -> None:
    numbers = far.numbers(publish(1), b"\x00\x00")
    assert far.heard() == [("DISCONNECT", 0x81)]
    far.settle(numbers)
    assert far.said() == []


def test_session_connects_anew_after_any_end(far: FarSide) -> None:
    far.receive(b"\x30\x06\x00", b"\x00\x00")
    far.reconnect()
    assert (far.session.state, far.session.ended) == (State.READY, None)
    assert len(far.receive(publish(1))) == 1


@pytest.mark.parametrize("answered", [False, True], ids=["CONNECT", "SUBSCRIBE"])
def test_session_broker_that_does_not_answer_is_left(answered: bool) -> None:
    side = FarSide()
    side.open()
    if answered:
        side.wait(3)
        side.receive(ConnAckPacket().write())
    side.wait(9.9)
    assert side.session.ended is None
    side.wait(0.2)
    assert f"has not answered our {'SUBSCRIBE' if answered else 'CONNECT'} for 10 s" in ended(side)
    assert isinstance(side.session.ended, Unavailable)


def test_session_who_does_not_read_pings_and_does_not_judge(far: FarSide) -> None:
    far.session.listen(False, far.now)
    far.wait(100)
    assert far.session.ended is None
    assert len(far.said()) == 7
    far.session.listen(True, far.now)
    far.wait(22)
    assert far.session.ended is None
    far.wait(1)
    assert "fallen silent" in ended(far)


def test_session_busy_broker_is_not_pinged(far: FarSide) -> None:
    for packet_id in range(1, 100):
        far.settle(far.numbers(publish(packet_id)))
        far.wait(5)
    assert {name for name, _ in far.heard()} == {"PUBACK"}


def test_session_half_open_connection_is_noticed_while_we_send(far: FarSide) -> None:
    numbers = far.numbers(*many(1, 20))
    for number in numbers[:15]:
        far.wait(2)
        far.settle(range(number, number + 1))
    assert "fallen silent" in ended(far)


def test_session_without_keep_alive_of_the_server_still_looks_after_it() -> None:
    side = FarSide()
    side.connect(ConnAckPacket(server_keep_alive=0))
    side.said()
    side.wait(14)
    assert side.heard() == [("PINGREQ", None)]
    side.receive(PingRespPacket().write())
    side.wait(30)
    assert "fallen silent" in ended(side)


def test_session_address_and_reason_are_in_the_sentence() -> None:
    side = FarSide(settings(host="mq.example", port=8883))
    side.open()
    code = ConnAckReasonCode.SERVER_BUSY
    side.receive(ConnAckPacket(reason_code=code, reason_str="come back later").write())
    assert ended(side) == "the broker at mq.example:8883 refuses us: server busy, 0x89: come back later"


def test_session_disconnected_before_connack_says_nothing_more() -> None:
    side = FarSide()
    side.open()
    side.said()
    side.session.disconnect()
    assert side.said() == []
    assert side.receive(DisconnectPacket().write()) == []


def test_answer_to_a_ping_belongs_to_its_connection(far: FarSide) -> None:
    first, second = far.session.ping(), far.session.ping()
    assert far.heard()[-2:] == [("PINGREQ", None)] * 2
    far.receive(PingRespPacket().write())
    assert first <= far.session.pings_answered < second
    far.reconnect()
    assert far.session.pings_answered < far.session.ping()
