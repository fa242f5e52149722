"""The native payload: every way in which it can be wrong has its reason, and what is right stays as it was sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.domains import load_domains
from telemetry.errors import Reason, Rejected
from telemetry.formats.native import Decoded, Element, NativeFormat, attributes

LIGHTING = load_domains()["lighting"]
NATIVE = NativeFormat(LIGHTING)


def only(payload: bytes) -> Element:
    """The only element of a payload."""
    (element,) = NATIVE.each(payload)
    return element


def fault(payload: bytes) -> Rejected:
    """Why the only element of a payload is no reading."""
    element = only(payload)
    assert isinstance(element.reading, Rejected)
    return element.reading


def said(payload: bytes) -> Decoded:
    """What the only element of a payload says."""
    element = only(payload)
    assert isinstance(element.reading, Decoded)
    return element.reading


def test_reading_of_the_contract_keeps_every_value() -> None:
    reading = said(b'{"time": "2026-11-23T06:00:01.123Z", "power_w": 41.5, "energy_kwh": 1203.4, "fault": null}')
    assert reading.time == datetime(2026, 11, 23, 6, 0, 1, 123_000, UTC)
    assert (reading.metrics, reading.extra) == ({"power_w": 41.5, "energy_kwh": 1203.4}, {})


@pytest.mark.parametrize(
    ("time", "instant"),
    [
        ('"2026-11-23T07:00:01+01:00"', datetime(2026, 11, 23, 6, 0, 1, tzinfo=UTC)),
        ("1795413601", datetime(2026, 11, 23, 6, 0, 1, tzinfo=UTC)),
        ("1795413601.25", datetime(2026, 11, 23, 6, 0, 1, 250_000, UTC)),
        ("1795413601250", datetime(2026, 11, 23, 6, 0, 1, 250_000, UTC)),
        ("null", None),
    ],
)
def test_time_is_rfc_3339_or_a_unix_number(time: str, instant: datetime | None) -> None:
    assert said(f'{{"time": {time}, "power_w": 1}}'.encode()).time == instant


@pytest.mark.parametrize(
    ("payload", "reason", "named"),
    [
        (b"", Reason.MALFORMED, "no JSON"),
        (b"{", Reason.MALFORMED, "no JSON"),
        (b"\x00\xff\xfe", Reason.MALFORMED, "no JSON"),
        (b'{"power_w": 1', Reason.MALFORMED, "no JSON"),
        (b'{"power_w": 1}{"power_w": 1}', Reason.MALFORMED, "no JSON"),
        (b'{"power_w": NaN}', Reason.MALFORMED, "NaN"),
        (b'{"power_w": -Infinity}', Reason.MALFORMED, "Infinity"),
        (b'[{"power_w": 1}', Reason.MALFORMED, "no JSON"),
        (b'[{"power_w": 1} {"power_w": 1}]', Reason.MALFORMED, "no JSON"),
        (b'[{"power_w": 1}] x', Reason.MALFORMED, "no JSON"),
        (b"[" * 100_000, Reason.MALFORMED, "no JSON"),
        (b"[]", Reason.SCHEMA, "empty"),
        (b"41.5", Reason.SCHEMA, "one JSON object"),
        (b"null", Reason.SCHEMA, "one JSON object"),
        (b'"power_w"', Reason.SCHEMA, "one JSON object"),
        (b"{}", Reason.SCHEMA, "no value"),
        (b'{"time": 1795413601}', Reason.SCHEMA, "no value"),
        (b'{"time": 1795413601, "power_w": null, "fault": null}', Reason.SCHEMA, "no value"),
        (b'{"time": "2026-11-23T06:00:01", "power_w": 1}', Reason.SCHEMA, "time: "),
        (b'{"time": "yesterday", "power_w": 1}', Reason.SCHEMA, "time: "),
        (b'{"power_w": "41.5"}', Reason.SCHEMA, "power_w: "),
        (b'{"power_w": true}', Reason.SCHEMA, "power_w: "),
        (b'{"lamp_on": 1}', Reason.SCHEMA, "lamp_on: "),
        (b'{"fault": "tired"}', Reason.SCHEMA, "'communication'"),
        (b'{"power_w": 10001}', Reason.OUT_OF_RANGE, "less than or equal to 10000 (given: 10001"),
        (b'{"dim_level_pct": -1}', Reason.OUT_OF_RANGE, "dim_level_pct: "),
        (b'{"power_w": 1e999}', Reason.OUT_OF_RANGE, "power_w: "),
        (b'{"power_w": 99999, "lamp_on": 1}', Reason.SCHEMA, "lamp_on: "),
    ],
)
def test_bad_payload_is_refused_with_its_reason(payload: bytes, reason: Reason, named: str) -> None:
    refused = fault(payload)
    assert refused.reason is reason
    assert named in refused.detail


def test_array_gives_each_element_its_own_fate() -> None:
    payload = b' [ {"power_w": 1} , {"power_w": "x"},{},\n{"power_w": 2, "note": "[,]\\"}"} ] '
    elements = list(NATIVE.each(payload))
    assert [element.position for element in elements] == [0, 1, 2, 3]
    assert [element.raw for element in elements][1:3] == [b'{"power_w": "x"}', b"{}"]
    good = [element.reading for element in elements if isinstance(element.reading, Decoded)]
    assert [reading.metrics["power_w"] for reading in good] == [1.0, 2.0]


def test_array_with_nan_in_one_element_keeps_the_others() -> None:
    first, second = NATIVE.each(b'[{"power_w": NaN}, {"power_w": 2}]')
    assert isinstance(first.reading, Rejected)
    assert first.reading.reason is Reason.MALFORMED
    assert isinstance(second.reading, Decoded)


def test_unknown_fields_are_kept_as_attributes() -> None:
    reading = said('{"power_w": 1, "firmware": "2.é", "deep": {"a": [1, null]}}'.encode())
    assert json.loads(attributes(reading.extra)) == {"firmware": "2.é", "deep": {"a": [1, None]}}


def test_unknown_field_with_an_infinite_number_is_refused() -> None:
    with pytest.raises(Rejected, match="too large"):
        attributes(said(b'{"power_w": 1, "x": 1e999}').extra)


@given(st.dictionaries(texts := st.text(alphabet='a\0\\u"é', max_size=8), st.lists(texts | st.integers())))
def test_unknown_field_with_a_nul_is_refused_wherever_it_is_and_no_other(extra: dict[str, list[str | int]]) -> None:
    if any("\0" in str(part) for name, values in extra.items() for part in (name, *values)):
        with pytest.raises(Rejected, match="NUL") as caught:
            attributes(extra)
        assert caught.value.reason is Reason.REJECTED_BY_DATABASE
    else:
        assert json.loads(attributes(extra)) == extra


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:0123456789.eE-truefalsn \\u', max_size=80).map(str.encode))
def test_any_bytes_become_a_reading_or_a_reason(payload: bytes) -> None:
    for element in NATIVE.each(payload):
        assert isinstance(element.reading, (Decoded, Rejected))


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3), min_size=1))
def test_elements_of_an_array_are_its_own_bytes(rows: list[dict[str, object]]) -> None:
    parts = [json.dumps(row, ensure_ascii=False) for row in rows]
    elements = list(NATIVE.each(f"[{' , '.join(parts)}]".encode()))
    assert [element.raw.decode() for element in elements] == parts
