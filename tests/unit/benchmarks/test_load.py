from __future__ import annotations

import json
from dataclasses import replace
from typing import NamedTuple

import pytest

from tests.benchmarks.load import GAP, RING, Load, ring
from tests.support.packets import IN_FLIGHT, PACKET_IDS

STAMP = b"2026-11-25T06:00:00.123456Z"
LOAD = Load(port=1883, root="bench", messages=1_000, devices=120, domains=("lighting", "waste"))


class Published(NamedTuple):
    """A PUBLISH of MQTT 3.1.1, QoS 1, as a broker reads it."""

    topic: str
    packet_id: int
    payload: bytes


def published(load: Load) -> list[Published]:
    """The packets of a whole ring."""
    data = b"".join(block.first(len(block.ends), STAMP) for block in ring(load))
    found: list[Published] = []
    place = 0
    while place < len(data):
        assert data[place] == 0x32
        assert data[place + 1] & 0x80
        size = data[place + 1] & 0x7F | data[place + 2] << 7
        body, place = data[place + 3 : place + 3 + size], place + 3 + size
        end = 2 + int.from_bytes(body[:2], "big")
        found.append(Published(body[2:end].decode(), int.from_bytes(body[end : end + 2], "big"), body[end + 2 :]))
    return found


def test_ring_is_whole_turns_of_all_devices() -> None:
    packets = published(LOAD)
    assert len(packets) == RING
    assert [packet.topic for packet in packets[:121:120]] == ["bench/lighting/load-0"] * 2
    assert {packet.topic for packet in packets} == {f"bench/{LOAD.domains[n % 2]}/load-{n}" for n in range(120)}


def test_packets_carry_json_with_their_time() -> None:
    assert {json.loads(packet.payload)["time"] for packet in published(LOAD)[:500]} == {STAMP.decode()}
    assert len(GAP) == len(STAMP)


@pytest.mark.parametrize("devices", [1, 120, 2_000, 70_000])
def test_packet_ids_in_flight_are_distinct(devices: int) -> None:
    ids = [packet.packet_id for packet in published(replace(LOAD, devices=devices))]
    assert min(ids) > 0
    assert max(ids) <= PACKET_IDS
    last: dict[int, int] = {}
    for place, packet_id in enumerate([*ids, *ids[:IN_FLIGHT]]):
        assert place - last.get(packet_id, -IN_FLIGHT) >= IN_FLIGHT
        last[packet_id] = place


def test_blocks_can_be_cut_between_packets() -> None:
    block = ring(LOAD)[0]
    assert block.opens
    assert block.first(2, STAMP) == block.data[: block.ends[1]].replace(GAP, STAMP)
