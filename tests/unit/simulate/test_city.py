"""The city is fixed by its seed and looks like one."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from telemetry.simulate.city import ZONES, city


def test_city_with_the_same_seed_is_the_same() -> None:
    assert city(500, seed=3) == city(500, seed=3)


def test_city_with_another_seed_is_another() -> None:
    assert city(100, seed=3) != city(100, seed=4)


def test_city_that_is_larger_contains_the_smaller() -> None:
    assert city(300)[:120] == city(120)


def test_city_mix_is_60_15_15_10() -> None:
    mix = Counter(device.domain for device in city(2_000))
    assert mix == {"lighting": 1_200, "energy": 300, "parking": 300, "waste": 200}


def test_city_of_twenty_has_every_domain() -> None:
    assert len({device.domain for device in city(20)}) == 4


def test_city_device_ids_are_unique_and_allowed() -> None:
    ids = [device.device_id for device in city(2_000)]
    assert len(set(ids)) == 2_000
    assert all(re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", device_id) for device_id in ids)


def test_city_devices_stand_in_their_zones() -> None:
    fleet = city(2_000)
    assert {device.zone for device in fleet} == set(ZONES)
    for device in fleet:
        latitude, longitude = ZONES[device.zone]
        assert abs(device.latitude - latitude) < 0.03
        assert abs(device.longitude - longitude) < 0.04


def test_city_of_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        city(-1)
