"""The native payload: one JSON object, or an array of them, whose fields are the metrics of the domain.

`{"time": "2026-11-23T06:00:01.123Z", "power_w": 41.5, "energy_kwh": 1203.4}`

Decoding is optimistic: nearly every payload is one good object, and `quick` costs a single call for it. Whatever that
refuses goes through `each`, which tells arrays, bad elements and bad payloads apart and finds the reason of each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, NoReturn

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from telemetry.domains import Domain, Reading
from telemetry.errors import Reason, Rejected
from telemetry.formats.quick import Stamp, quick_validator

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""The character as JSON has it; behind a further backslash it is the text of its escape, which is fine."""
_SPACE = re.compile(r"[ \t\n\r]*")
_OUT_OF_RANGE = {"greater_than_equal", "less_than_equal", "finite_number"}
_SHOWN_FAULTS = 3
_ELEMENTS = 10_000
_SHOWN_INPUT = 80


class Decoded(NamedTuple):
    """What a payload says, without what it leaves out and without nulls.

    Attributes:
        metrics: in the order of the model.
        extra: the fields that the model does not know.
    """

    time: Stamp | None
    device_id: str | None
    metrics: dict[str, Any]
    extra: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Element:
    """One reading of a payload, or why it is none.

    Attributes:
        raw: its bytes: the payload, or its part of an array.
        position: its place in an array, from 0; None for a payload that is no array.
    """

    raw: bytes
    position: int | None
    reading: Decoded | Rejected


class NativeFormat:
    """Decodes the payloads of one domain.

    Attributes:
        quick: the fields of a payload that is one object, in the order of the model and the unknown ones last; raises
            ValueError for anything else, and for what is right but rare (`quick.py`).
    """

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._known = frozenset(("time", "device_id", *domain.metrics))
        self._validate = domain.model.model_validate_json
        self.quick = quick_validator(domain.model)

    def decoded(self, fields: Mapping[str, Any]) -> Decoded:
        """What the fields of a reading are.

        Raises:
            Rejected: none of them has a value.
        """
        metrics = {name: fields[name] for name in self._domain.metrics if fields.get(name) is not None}
        extra = {name: value for name, value in fields.items() if name not in self._known}
        if not metrics and not extra:
            some = ", ".join(list(self._domain.metrics)[3:7])
            raise Rejected(Reason.SCHEMA, f"the reading has no value; give at least one field, such as {some}")
        return Decoded(fields.get("time"), fields.get("device_id"), metrics, extra)

    def each(self, payload: bytes, at_most: int = _ELEMENTS) -> Iterator[Element]:
        """Every element of a payload, each with its reading or the reason why it has none.

        Args:
            at_most: elements that an array may have; a longer one is refused as a whole.
        """
        try:
            parts = _split(payload, at_most)
        except Rejected as fault:
            yield Element(payload, None, fault)
            return
        if parts is None:
            yield Element(payload, None, self._decode(payload))
            return
        for position, raw in enumerate(parts):
            yield Element(raw, position, self._decode(raw))

    def _decode(self, raw: bytes) -> Decoded | Rejected:
        try:
            reading: Reading = self._validate(raw)
            return self.decoded(reading.__dict__ | (reading.__pydantic_extra__ or {}))
        except ValidationError as error:
            return _explain(error, raw)
        except Rejected as fault:
            return fault


def attributes(extra: Mapping[str, Any]) -> str:
    """The fields that the model does not know, as JSON text.

    Raises:
        Rejected: one of them is not a number that JSON or the database can hold, or not a text that it can.
    """
    try:
        text = json.dumps(extra, allow_nan=False, ensure_ascii=False)
    except ValueError:
        raise Rejected(Reason.OUT_OF_RANGE, "an unknown field holds a number that is too large to be kept") from None
    # The database would refuse it as well, but with it the whole batch, whose halves are tried then.
    if "\\u0000" in text and _NUL.search(text):
        raise Rejected(
            Reason.REJECTED_BY_DATABASE,
            "an unknown field holds a NUL character (U+0000), which PostgreSQL cannot store",
        )
    return text


def _split(payload: bytes, at_most: int) -> list[bytes] | None:
    """The raw elements of an array; None when the payload is no array.

    Raises:
        Rejected: it is an array that cannot be read, or an empty one.
    """
    if not payload.lstrip(b" \t\n\r").startswith(b"["):
        return None
    try:
        text = payload.decode()
        parts = [part.encode() for part in islice(_parts(text, text.index("[") + 1), at_most + 1)]
    except (ValueError, RecursionError) as error:
        raise Rejected(Reason.MALFORMED, f"the payload is no JSON: {error}") from None
    if not parts:
        raise Rejected(Reason.SCHEMA, "the array is empty; give at least one reading")
    if len(parts) > at_most:
        raise Rejected(Reason.OVERSIZE, f"the array has more than ingest.max_array_elements = {at_most:,} elements")
    return parts


def _parts(text: str, at: int) -> Iterator[str]:
    """The texts of an array's elements; `at` is the place after its opening bracket."""
    scan = json.JSONDecoder().raw_decode
    at = _after_space(text, at)
    if text[at : at + 1] == "]":
        return _require_end(text, at + 1)
    while True:
        _, end = scan(text, at)
        yield text[at:end]
        at = _after_space(text, end)
        if text[at : at + 1] == "]":
            return _require_end(text, at + 1)
        if text[at : at + 1] != ",":
            raise ValueError(f"expected , or ] at character {at}")
        at = _after_space(text, at + 1)


def _require_end(text: str, at: int) -> None:
    if _after_space(text, at) != len(text):
        raise ValueError(f"something follows the array at character {at}")


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _explain(error: ValidationError, raw: bytes) -> Rejected:
    faults = error.errors(include_url=False, include_context=False)
    if faults[0]["type"] == "json_invalid":
        return Rejected(Reason.MALFORMED, f"the payload is no JSON: {faults[0]['msg'].removeprefix('Invalid JSON: ')}")
    if any(fault["type"] == "finite_number" for fault in faults) and _has_constants(raw):
        return Rejected(
            Reason.MALFORMED, "the payload is no JSON: NaN and Infinity are no JSON numbers; leave the field out"
        )
    reason = Reason.OUT_OF_RANGE if all(fault["type"] in _OUT_OF_RANGE for fault in faults) else Reason.SCHEMA
    shown = [_sentence(fault) for fault in faults[:_SHOWN_FAULTS]]
    more = len(faults) - len(shown)
    return Rejected(reason, "; ".join([*shown, f"and {more} more"] if more else shown))


def _sentence(fault: ErrorDetails) -> str:
    name = ".".join(str(part) for part in fault["loc"])
    if not name:
        return 'a reading is one JSON object, such as {"power_w": 41.5}'
    message = fault["msg"][:1].lower() + fault["msg"][1:]
    return f"{name}: {message} (given: {_shown(fault['input'])})"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= _SHOWN_INPUT else f"{text[:_SHOWN_INPUT]}…"


def _has_constants(raw: bytes) -> bool:
    """Whether NaN or Infinity is written where a number should be: Python reads it, JSON does not have it."""
    try:
        json.loads(raw, parse_constant=_refuse)
    except ValueError:
        return True
    return False


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)
