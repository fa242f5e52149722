"""What can be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from telemetry.client.bodies import DataOnly, body
from telemetry.client.exchange import Answer, Question, Request, one
from telemetry.client.parameters import Kind


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of a domain.

    Attributes:
        minimum, maximum: what is accepted.
        options: the words of an enum.
        glitch: share of its value by which a counter may fall without having been reset; None of other kinds.
        aggregates: those that make sense for its kind.
    """

    name: str
    unit: str
    kind: Kind
    type: Literal["number", "boolean", "enum"]
    description: str
    minimum: float | None
    maximum: float | None
    options: tuple[str, ...]
    aggregates: tuple[str, ...]
    default_aggregate: str
    glitch: float | None = None


@dataclass(frozen=True, slots=True)
class Domain:
    """What devices of one sort measure; metrics by their names."""

    name: str
    title: str
    description: str
    metrics: Mapping[str, Metric]


@dataclass(frozen=True, slots=True)
class _Listed:
    name: str
    title: str
    description: str
    metrics: tuple[Metric, ...]


def domains() -> Question[dict[str, Domain]]:
    """Every domain by its name, with metrics, units, kinds and aggregates."""
    return one(Request("v1/domains"), _read)


def _read(answer: Answer) -> dict[str, Domain]:
    listed = body(DataOnly[tuple[_Listed, ...]], answer).data
    return {
        each.name: Domain(each.name, each.title, each.description, {metric.name: metric for metric in each.metrics})
        for each in listed
    }
