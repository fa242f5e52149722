"""A metric: one measured quantity with its unit, its kind and its valid range.

A model declares it as an ordinary Pydantic field through `gauge`, `counter` or `state`; `Metric.of` reads it back, so
that columns, validation, defaults and documentation have one source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import Field, JsonValue
from pydantic.fields import FieldInfo

from telemetry.errors import ConfigurationError


class Kind(StrEnum):
    """How the values of a metric behave over time, which decides how they may be aggregated."""

    GAUGE = "gauge"
    """A level that goes up and down; default aggregate `avg`."""
    COUNTER = "counter"
    """A monotone index; default aggregate `increase`, resets handled."""
    STATE = "state"
    """A boolean or one of a few words; default aggregate `share`, weighted by time."""


DEFAULT_AGGREGATE = {Kind.GAUGE: "avg", Kind.COUNTER: "increase", Kind.STATE: "share"}

GLITCH = 0.05
"""Share of its value by which a counter may fall without having been reset, where its metric says nothing else."""

ValueType = Literal["number", "boolean", "enum"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a domain.

    Attributes:
        name: column and JSON name, with the unit as its suffix (`power_w`).
        unit: UCUM-like symbol (`W`, `kWh`, `%`); empty where there is none.
        minimum, maximum: inclusive valid range of a number; a value outside is quarantined as `out_of_range`.
        options: the words of an enum, empty otherwise.
        glitch: by at most this share of its value a counter may fall without having been reset; None of other kinds.
    """

    name: str
    unit: str
    kind: Kind
    description: str
    value_type: ValueType
    minimum: float | None = None
    maximum: float | None = None
    options: tuple[str, ...] = ()
    glitch: float | None = None

    @property
    def default_aggregate(self) -> str:
        """The aggregate that a question gets when it names none."""
        return DEFAULT_AGGREGATE[self.kind]

    @property
    def column_type(self) -> str:
        """PostgreSQL type of the column: numbers are double precision so that no value is altered by storing it."""
        return {"number": "double precision", "boolean": "boolean", "enum": "text"}[self.value_type]

    @classmethod
    def of(cls, name: str, field: FieldInfo) -> Metric | None:
        """The metric that a model's field declares; None for `time` and `device_id`."""
        extra = field.json_schema_extra
        if not isinstance(extra, dict) or "kind" not in extra:
            return None
        value_type, options = _value_type(name, field.annotation)
        return cls(
            name=name,
            unit=str(extra["unit"]),
            kind=Kind(str(extra["kind"])),
            description=field.description or "",
            value_type=value_type,
            minimum=_bound(field, "ge"),
            maximum=_bound(field, "le"),
            options=options,
            glitch=float(str(extra["glitch"])) if "glitch" in extra else None,
        )


def gauge(unit: str, description: str, *, ge: float | None = None, le: float | None = None, whole: bool = False) -> Any:
    """A level, e.g. power in W. `whole` refuses fractions, as for a number of parking spots."""
    return _number(Kind.GAUGE, unit, description, ge, le, whole)


def counter(
    unit: str, description: str, *, le: float | None = None, whole: bool = False, glitch: float = GLITCH
) -> Any:
    """A monotone index from zero, e.g. an energy meter in kWh.

    Args:
        glitch: by at most this share of its value, 0 to less than 1, it may fall without having been reset: such a fall
            is a glitch, which the next reading makes up for. 0 tolerates none.

    Raises:
        ConfigurationError: `glitch` is no such share.
    """
    if not 0 <= glitch < 1:
        raise ConfigurationError(
            f"counter {description!r}: glitch is {glitch}; it is a share of the counter's value, from 0 to less than 1"
        )
    return _number(Kind.COUNTER, unit, description, 0, le, whole, {"glitch": glitch})


def state(description: str) -> Any:
    """A condition that holds until the next reading: `bool` or a `Literal` of words."""
    return Field(None, description=description, json_schema_extra={"kind": Kind.STATE, "unit": ""})


def _number(
    kind: Kind,
    unit: str,
    description: str,
    ge: float | None,
    le: float | None,
    whole: bool,
    more: Mapping[str, JsonValue] | None = None,
) -> Any:
    extra: dict[str, JsonValue] = {"kind": kind, "unit": unit, **(more or {})}
    multiple = 1 if whole else None
    return Field(None, description=description, ge=ge, le=le, multiple_of=multiple, json_schema_extra=extra)


def _bound(field: FieldInfo, name: str) -> float | None:
    for constraint in field.metadata:
        if (value := getattr(constraint, name, None)) is not None:
            return float(value)
    return None


def _value_type(name: str, annotation: Any) -> tuple[ValueType, tuple[str, ...]]:
    inner = without_none(annotation)
    if inner is bool:
        return "boolean", ()
    if inner is float:
        return "number", ()
    if get_origin(inner) is Literal:
        return "enum", tuple(str(word) for word in get_args(inner))
    raise TypeError(f"metric {name}: {annotation} is not float, bool or Literal[...], each with | None")


def without_none(annotation: Any) -> Any:
    """The type of a field that may also be None."""
    if get_origin(annotation) in (Union, UnionType):
        (inner,) = [member for member in get_args(annotation) if member is not NoneType]
        return inner
    return annotation
