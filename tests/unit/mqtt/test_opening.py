"""What CONNECT and SUBSCRIBE say."""

from __future__ import annotations

from datetime import timedelta

import pytest
from mqtt5 import RetainHandling

from telemetry.errors import ConfigurationError
from telemetry.mqtt.opening import connect_packet, keep_alive_s, session_expiry_s, subscribe_packet
from tests.unit.mqtt.far_side import Q1, settings


def test_connect_asks_for_a_session_that_lasts() -> None:
    packet = connect_packet(settings(receive_maximum=1234, username="u", password="p"))
    assert (packet.client_id, packet.clean_start) == ("telemetry-ingest", False)
    assert (packet.session_expiry_interval, packet.keep_alive, packet.receive_max) == (7 * 86_400, 15, 1234)
    assert (packet.username, packet.password) == ("u", b"p")
    assert packet.will is None


def test_connect_announces_no_maximum_packet_size_and_no_topic_aliases() -> None:
    """[MQTT-3.1.2-24], [MQTT-3.1.2-25] A Server discards what is larger than our maximum; without one it must not."""
    packet = connect_packet(settings())
    assert packet.max_packet_size is None
    assert packet.topic_alias_max == 0


@pytest.mark.parametrize(("given", "said"), [("15s", 15), ("100ms", 1), ("1.2s", 2), ("65535s", 65_535)])
def test_keep_alive_is_whole_seconds_in_the_range_of_the_protocol(given: str, said: int) -> None:
    assert keep_alive_s(settings(keep_alive=given)) == said


def test_session_expiry_of_centuries_is_for_ever() -> None:
    assert session_expiry_s(settings(session_expiry=timedelta(days=100_000))) == 0xFFFF_FFFF


def test_subscribe_wants_retained_messages_once_per_session() -> None:
    packet = subscribe_packet(["a/#", "b/+"], Q1)
    assert [wanted.pattern for wanted in packet.topic_filters] == ["a/#", "b/+"]
    for wanted in packet.topic_filters:
        assert wanted.max_qos is Q1
        assert wanted.retain_handling is RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS
        assert wanted.retain_as_published


def test_subscribe_to_what_is_no_filter_names_the_setting() -> None:
    with pytest.raises(ConfigurationError, match=r"no topic filter: a#; see mqtt\.topic_root"):
        subscribe_packet(["a#"], Q1)


def test_shared_subscription_is_asked_for_without_no_local() -> None:
    """[MQTT-3.8.3-4] It is a Protocol Error to set the No Local bit to 1 on a Shared Subscription."""
    (wanted,) = subscribe_packet(["$share/group/city/v1/#"], Q1).topic_filters
    assert wanted.pattern == "$share/group/city/v1/#"
    assert not wanted.no_local
