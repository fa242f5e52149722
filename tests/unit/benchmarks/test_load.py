from __future__ import annotations

import json
from dataclasses import replace

import pytest
from mqtt5 import PublishPacket, QoS

from telemetry.mqtt.reader import PacketReader
from tests.benchmarks.load import GAP, IN_FLIGHT, PACKET_IDS, RING, Load, ring

STAMP = b"2026-11-25T06:00:00.123456Z"
LOAD = Load(port=1883, root="bench", messages=1_000, devices=120, domains=("lighting", "waste"))


def published(load: Load) -> list[PublishPacket]:
    """The packets of a whole ring, as a subscriber would read their like."""
    data = b"".join(block.first(len(block.ends), STAMP) for block in ring(load))
    # MQTT 5 has properties between the packet id and the payload; ours, of MQTT 3.1.1, are given empty ones.
    found: list[PublishPacket] = []
    while data:
        size, width = data[1] & 0x7F, 1
        if data[1] & 0x80:
            size, width = size | data[2] << 7, 2
        body, data = data[1 + width : 1 + width + size], data[1 + width + size :]
        topic = 2 + int.from_bytes(body[:2], "big")
        body = body[: topic + 2] + b"\0" + body[topic + 2 :]
        packet = b"\x32" + bytes((len(body) & 0x7F | 0x80, len(body) >> 7)) + body
        found += [each for each in PacketReader().feed(packet) if isinstance(each, PublishPacket)]
    return found


def test_ring_is_whole_turns_of_all_devices() -> None:
    packets = published(LOAD)
    assert len(packets) == RING
    assert [packet.topic for packet in packets[:121:120]] == ["bench/lighting/load-0"] * 2
    assert {packet.topic for packet in packets} == {f"bench/{LOAD.domains[n % 2]}/load-{n}" for n in range(120)}
    assert all(packet.qos is QoS.AT_LEAST_ONCE for packet in packets)


def test_packets_carry_json_with_their_time() -> None:
    assert {json.loads(packet.payload)["time"] for packet in published(LOAD)[:500]} == {STAMP.decode()}
    assert len(GAP) == len(STAMP)


@pytest.mark.parametrize("devices", [1, 120, 2_000, 70_000])
def test_packet_ids_in_flight_are_distinct(devices: int) -> None:
    ids = [packet.packet_id for packet in published(replace(LOAD, devices=devices))]
    assert all(packet_id is not None and 0 < packet_id <= PACKET_IDS for packet_id in ids)
    around = [*ids, *ids[:IN_FLIGHT]]
    last: dict[int | None, int] = {}
    for place, packet_id in enumerate(around):
        assert place - last.get(packet_id, -IN_FLIGHT) >= IN_FLIGHT
        last[packet_id] = place


def test_blocks_can_be_cut_between_packets() -> None:
    block = ring(LOAD)[0]
    assert block.opens
    assert block.first(2, STAMP) == block.data[: block.ends[1]].replace(GAP, STAMP)
