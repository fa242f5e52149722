"""The state of the service."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydantic import BaseModel

from telemetry.client.bodies import DataOnly, body
from telemetry.client.errors import ServiceUnavailable
from telemetry.client.exchange import Flow, Question, Request, fetch, one


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the service can answer.

    Attributes:
        engine: `timescaledb` or `postgres`; None while it is not ready.
        detail: why it is not ready.
    """

    is_ready: bool
    engine: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """What runs there."""

    name: str
    version: str


class _Ready(BaseModel):
    engine: str


def health() -> Question[Health]:
    """Whether the service can answer; no error is raised where it says itself that it cannot."""

    def flow() -> Flow[Health]:
        try:
            answer = yield from fetch(Request("readyz", is_repeatable=False))
        except ServiceUnavailable as problem:
            return Health(False, detail=problem.detail)
        return Health(True, engine=body(_Ready, answer).engine)

    return Question(flow, is_bounded=False)


def version() -> Question[Version]:
    """Name and version of the service."""
    asked = one(Request("version"), lambda answer: body(DataOnly[Version], answer).data)
    return replace(asked, is_bounded=False)
