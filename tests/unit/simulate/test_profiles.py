"""Every profile over a year: valid by the domain's model, the same every time, consistent in itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from telemetry.domains import load_domains
from telemetry.simulate.calendar import at, day_of, fraction_of_day, noise
from telemetry.simulate.city import city
from telemetry.simulate.device import Payload, SimulatedDevice
from telemetry.simulate.lighting import emitted_faults, night
from telemetry.simulate.profiles import encode, payload
from telemetry.simulate.sky import sun

FLEET = city(240)
YEAR = datetime(2026, 1, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
CLOCK_CHANGES = (datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC))
COUNTERS = {
    "lighting": ("energy_kwh", "burning_hours_h"),
    "energy": ("energy_import_kwh", "energy_export_kwh", "reactive_energy_kvarh"),
    "parking": ("arrivals", "departures"),
}


def of(domain: str, *kinds: str) -> list[SimulatedDevice]:
    return [device for device in FLEET if device.domain == domain and (not kinds or device.kind in kinds)]


def over_the_year(step: timedelta) -> Iterator[datetime]:
    time = YEAR
    while time < YEAR + timedelta(days=365):
        yield time
        time += step


def quarters(start: datetime, days: float) -> list[datetime]:
    return [start + QUARTER * step for step in range(int(days * 96))]


@pytest.mark.parametrize("domain", ["energy", "lighting", "parking", "waste"])
def test_reading_over_a_year_is_valid_by_the_model(domain: str) -> None:
    model = load_domains()[domain].model
    for device in of(domain):
        for time in over_the_year(timedelta(days=3, hours=5, minutes=7)):
            reading = model.model_validate_json(encode(device, [time]))
            assert reading.time == time
            assert not reading.model_extra


def test_encode_several_times_is_an_array_in_order() -> None:
    times = quarters(YEAR, 1)
    readings = json.loads(encode(FLEET[0], times))
    assert [datetime.fromisoformat(reading["time"]) for reading in readings] == times


def test_payload_again_is_identical() -> None:
    times = quarters(YEAR + timedelta(days=200, minutes=3), 0.5)
    first = [payload(device, time) for device in FLEET for time in times]
    again = [payload(device, time) for device in city(240) for time in reversed(times)]
    assert sorted(map(str, first)) == sorted(map(str, again))


def test_payload_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="offset"):
        payload(FLEET[0], datetime(2026, 6, 1))  # noqa: DTZ001


def test_payload_before_the_first_day_is_refused() -> None:
    with pytest.raises(ValueError, match="begins on 2024-01-01"):
        payload(FLEET[0], datetime(2023, 6, 1, tzinfo=UTC))


@pytest.mark.parametrize("domain", list(COUNTERS))
@pytest.mark.parametrize("start", [YEAR, datetime(2026, 6, 20, tzinfo=UTC), *CLOCK_CHANGES])
def test_counters_never_fall(domain: str, start: datetime) -> None:
    for device in of(domain)[:40]:
        readings = [payload(device, time) for time in quarters(start, 2)]
        for name in COUNTERS[domain]:
            values = [reading[name] for reading in readings if name in reading]
            assert values == sorted(values)


@pytest.mark.parametrize("start", [datetime(2026, 6, 20, tzinfo=UTC), *CLOCK_CHANGES])
def test_lighting_energy_is_the_integral_of_power(start: datetime) -> None:
    minutes = [start + timedelta(minutes=minute) for minute in range(1441)]
    for device in of("lighting")[:12]:
        readings = [payload(device, time) for time in minutes]
        integral = sum(number(reading, "power_w") for reading in readings[:-1]) / 60 / 1000
        counted = number(readings[-1], "energy_kwh") - number(readings[0], "energy_kwh")
        assert counted == pytest.approx(integral, rel=0.01)


@pytest.mark.parametrize("start", [datetime(2026, 6, 20, tzinfo=UTC), *CLOCK_CHANGES])
def test_energy_indexes_are_the_integral_of_power(start: datetime) -> None:
    minutes = [start + timedelta(minutes=minute) for minute in range(1441)]
    for device in of("energy")[:12]:
        readings = [payload(device, time) for time in minutes]
        powers = [number(reading, "active_power_w") for reading in readings]
        integral = sum((a + b) / 2 for a, b in pairwise(powers)) / 60 / 1000
        taken = number(readings[-1], "energy_import_kwh") - number(readings[0], "energy_import_kwh")
        fed = number(readings[-1], "energy_export_kwh") - number(readings[0], "energy_export_kwh")
        assert taken - fed == pytest.approx(integral, rel=0.001, abs=0.02)


def test_burning_hours_over_a_winter_night_are_its_length() -> None:
    noon = datetime(2026, 12, 20, 11, tzinfo=UTC)
    device = next(lamp for lamp in of("lighting") if not emitted_faults(lamp))
    before, after = payload(device, noon), payload(device, noon + timedelta(days=1))
    hours = number(after, "burning_hours_h") - number(before, "burning_hours_h")
    assert 14.5 < hours < 16


@pytest.mark.parametrize("month", range(1, 13))
def test_lamps_are_lit_at_midnight_and_dark_at_noon(month: int) -> None:
    midnight = datetime.fromtimestamp(at(datetime(2026, month, 15, tzinfo=UTC).toordinal()), UTC)
    for lamp in of("lighting"):
        lit = payload(lamp, midnight)
        assert lit["lamp_on"] is (lit["fault"] not in ("lamp", "driver"))
        dark = payload(lamp, midnight + timedelta(hours=12))
        assert (dark["lamp_on"], dark["dim_level_pct"]) == (False, 0)
        assert number(dark, "power_w") < 2


def test_led_lamps_are_dimmed_in_the_night_only() -> None:
    evening, night_time = (datetime(2026, 11, 24, hour, 30, tzinfo=UTC) for hour in (18, 23))
    sound = [lamp for lamp in of("lighting", "led") if not emitted_faults(lamp)]
    assert {payload(lamp, evening)["dim_level_pct"] for lamp in sound} == {100}
    assert {payload(lamp, night_time)["dim_level_pct"] for lamp in sound} == {40}


def test_lamps_of_which_a_few_are_broken() -> None:
    broken = [lamp for lamp in city(2_000) if lamp.domain == "lighting" and emitted_faults(lamp)]
    assert 0.01 < len(broken) / 1_200 < 0.04


def test_broken_lamp_burns_no_hours() -> None:
    lamp = next(lamp for lamp in city(2_000) if lamp.domain == "lighting" and emitted_faults(lamp) == {"lamp"})
    noons = [datetime(2026, 11, 1, 11, tzinfo=UTC) + timedelta(days=day) for day in range(13)]
    gains = [
        number(payload(lamp, b), "burning_hours_h") - number(payload(lamp, a), "burning_hours_h")
        for a, b in pairwise(noons)
    ]
    assert sum(gain == 0 for gain in gains) == 2


@pytest.mark.parametrize(("month", "rise", "sets"), [(6, 4.1, 20.0), (12, 7.7, 16.2), (3, 6.08, 18.23)])
def test_sun_over_angers_is_where_the_almanac_has_it(month: int, rise: float, sets: float) -> None:
    midnight = datetime(2026, month, 21, tzinfo=UTC)
    hours = [(instant - midnight.timestamp()) / 3600 for instant in sun(midnight.toordinal())]
    assert hours == pytest.approx([rise, sets], abs=0.12)


def test_night_switching_times_rise_over_the_whole_year() -> None:
    for time in over_the_year(timedelta(days=1)):
        times = night(time.toordinal(), 4)
        assert list(times) == sorted(times)


def test_solar_roof_exports_at_noon_and_not_at_night() -> None:
    noon = datetime(2026, 6, 20, 12, tzinfo=UTC)
    for roof in of("energy", "solar_roof"):
        assert number(payload(roof, noon), "active_power_w") < 0
        assert number(payload(roof, noon + timedelta(hours=12)), "active_power_w") > 0


def test_school_takes_more_on_a_monday_than_on_a_sunday() -> None:
    sunday = datetime(2026, 11, 22, 10, tzinfo=UTC)
    for school in of("energy", "school"):
        monday = payload(school, sunday + timedelta(days=1))
        assert number(monday, "active_power_w") > 2 * number(payload(school, sunday), "active_power_w")


def test_meter_electrical_values_fit_each_other() -> None:
    for meter in of("energy"):
        reading = payload(meter, datetime(2026, 11, 23, 10, 7, tzinfo=UTC))
        active, reactive, apparent = (
            number(reading, name) for name in ("active_power_w", "reactive_power_var", "apparent_power_va")
        )
        assert apparent == pytest.approx((active**2 + reactive**2) ** 0.5, rel=0.01)
        phases = sum(
            number(reading, f"voltage_l{phase}_v") * number(reading, f"current_l{phase}_a") for phase in (1, 2, 3)
        )
        assert phases == pytest.approx(apparent, rel=0.01)


def test_car_park_occupancy_is_what_the_counters_say() -> None:
    for park in of("parking", "commuters", "shoppers", "residents"):
        readings = [payload(park, time) for time in over_the_year(timedelta(hours=19))]
        differences = {r["occupied_spots"] - r["arrivals"] + r["departures"] for r in map(numbers, readings)}
        assert len(differences) == 1
        assert all(0 <= r["occupied_spots"] <= r["total_spots"] for r in map(numbers, readings))


def test_commuters_fill_the_car_park_by_ten_and_are_gone_at_night() -> None:
    for park in of("parking", "commuters"):
        day, night_time = (
            numbers(payload(park, datetime(2026, 11, 24, hour, tzinfo=UTC)))["occupied_spots"] for hour in (10, 2)
        )
        assert day > 3 * night_time


def test_bins_fill_and_are_emptied() -> None:
    for container in of("waste"):
        levels = [number(payload(container, time), "fill_level_pct") for time in quarters(YEAR, 14)]
        falls = [(a, b) for a, b in pairwise(levels) if b < a]
        assert 2 <= len(falls) <= 7
        assert all(b == pytest.approx(3, abs=3) for _, b in falls)
        assert max(levels) > 45


def test_day_around_the_clock_changes_has_23_and_25_hours() -> None:
    spring, autumn = (change.toordinal() + 1 for change in CLOCK_CHANGES)
    assert (at(spring + 1) - at(spring), at(autumn + 1) - at(autumn)) == (23 * 3600, 25 * 3600)
    for time in over_the_year(timedelta(minutes=53)):
        day, passed = fraction_of_day(time.timestamp())
        assert at(day) <= time.timestamp() < at(day + 1)
        assert 0 <= passed < 1
        assert day == day_of(time.timestamp())


def test_noise_is_evenly_spread_and_fixed() -> None:
    values = [noise(seed, 7) for seed in range(4_000)]
    assert sum(values) / len(values) == pytest.approx(0.5, abs=0.02)
    assert noise(3, 7) == values[3]


def number(reading: Payload, name: str) -> float:
    return float(reading[name])


def numbers(reading: Payload) -> dict[str, float]:
    return {name: float(value) for name, value in reading.items()}
