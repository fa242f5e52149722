"""The quick way reads a payload exactly as the model does, or leaves it to the model."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeAlias

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import field_validator

from telemetry.domains import Reading, load_domains
from telemetry.errors import Rejected
from telemetry.formats.native import Decoded, NativeFormat
from telemetry.formats.quick import microseconds, quick_validator

DOMAINS = load_domains()
ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
ODD_TIMES = [
    "2026-02-30T00:00:00Z",
    "2026-W48-3T15:12:33Z",
    "2026-11-25T15:12:33,5Z",
    "2026-11-25T24:00:00Z",
    "2026-11-25T15:12:33.1234567Z",
    "2026-11-25 15:12:33Z",
    "2026-11-25T15:12:60Z",
    "0000-01-01T00:00:00Z",
    "2026-11-25T15:12:33z",
    "2026-11-25T15:12:33",
    "2026-11-25T15:12:33+24:00",
    "2026-11-25T15:12:33.5+05:30",
    "1795413601",
    "",
]
TIMES = (
    st.datetimes(timezones=st.just(UTC) | ZONES).map(datetime.isoformat)
    | st.datetimes(timezones=st.just(UTC)).map(lambda time: time.isoformat().replace("+00:00", "Z"))
    | st.integers(-(10**14), 10**14)
    | st.sampled_from(ODD_TIMES)
    | st.floats(0, 2e10)
    | st.none()
    | st.booleans()
)
ODD_NUMBERS = [1e999, 10**400, "5", True, []]
NUMBERS = st.none() | st.integers(-5, 20_000) | st.floats(-10, 12_000) | st.sampled_from(ODD_NUMBERS)
OTHERS = st.none() | st.booleans() | st.sampled_from(["none", "lamp", "tired", "lamp-1", 7])


Said: TypeAlias = tuple[int | None, Decoded] | Rejected | None
"""The time in µs and the rest, or why it is refused."""


@st.composite
def payloads(draw: st.DrawFn) -> tuple[str, bytes]:
    """A domain and an object for it: known and unknown fields, in any order, mostly good."""
    domain = DOMAINS[draw(st.sampled_from(sorted(DOMAINS)))]
    fields: dict[str, Any] = {}
    if draw(st.booleans()):
        fields["time"] = draw(TIMES)
    for name in draw(st.lists(st.sampled_from([*domain.metrics, "device_id", "firmware", "attributes"]), max_size=5)):
        number = name in domain.metrics and domain.metrics[name].value_type == "number"
        fields[name] = draw(NUMBERS if number else OTHERS)
    order = draw(st.permutations(list(fields)))
    return domain.name, json.dumps({name: fields[name] for name in order}).encode()


def both_ways(domain: str, payload: bytes) -> tuple[Said, Said]:
    """What is said, the quick way (None where it leaves it to the model) and by the model."""
    native = NativeFormat(DOMAINS[domain])
    (element,) = native.each(payload)
    slow = element.reading
    by_model: Said = slow if isinstance(slow, Rejected) else with_microseconds(slow)
    try:
        fields = native.quick(payload)
        microseconds(fields.get("time", 0))  # before all else, as ingest does
        return with_microseconds(native.decoded(fields)), by_model
    except Rejected as fault:
        return fault, by_model
    except ValueError:
        return None, by_model


def with_microseconds(said: Decoded) -> tuple[int | None, Decoded]:
    return None if said.time is None else microseconds(said.time), said._replace(time=None)


@given(payloads())
@example(("lighting", b'{"time": "2026-11-25T15:12:33.543Z", "power_w": 1, "power_w": 2}'))
@example(("lighting", b'{"time": 20000000000, "power_w": 1}'))
@example(("lighting", b'{"time": 20000000001, "power_w": 1}'))
@example(("lighting", b'{"time": -1, "lamp_on": false}'))
@example(("lighting", b'{"time": 253402300799999, "lamp_on": false}'))
@example(("lighting", b'{"time": 253402300800000, "lamp_on": false}'))
@example(("lighting", b'{"time": ' + b"9" * 400 + b', "lamp_on": false}'))
def test_quick_way_says_what_the_model_says(given: tuple[str, bytes]) -> None:
    quick, by_model = both_ways(*given)
    if isinstance(quick, Rejected):
        assert isinstance(by_model, Rejected)
        assert (quick.reason, quick.detail) == (by_model.reason, by_model.detail)
    elif quick is not None:
        assert quick == by_model


@pytest.mark.parametrize(
    "payload",
    [
        b'{"time": "2026-11-25T15:12:33.543Z", "power_w": 41.5}',
        b'{"time": "2026-11-25T16:12:33+01:00", "lamp_on": true, "fault": "lamp"}',
        b'{"time": 1795413601, "power_w": 41, "firmware": "2"}',
        b'{"power_w": 41.5, "device_id": "lamp-1"}',
    ],
)
def test_usual_payload_goes_the_quick_way(payload: bytes) -> None:
    quick, by_model = both_ways("lighting", payload)
    assert quick is not None
    assert quick == by_model


def test_model_that_checks_more_than_its_fields_is_left_to_itself() -> None:
    class Checked(Reading):
        power_w: float | None = None

        @field_validator("power_w")
        @classmethod
        def _even(cls, value: float) -> float:
            return value

    with pytest.raises(ValueError, match="more than its fields"):
        quick_validator(Checked)(b'{"power_w": 1}')
