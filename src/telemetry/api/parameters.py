"""Query parameters that many routes share, and the refusal of parameters and members of bodies that a route has not."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Set
from copy import copy
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, get_origin

from fastapi import Query, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from telemetry.api.problems import UNKNOWN_MEMBER, invalid_parameter

Metrics = Annotated[
    tuple[str, ...], Query(alias="metric", description="Metrics by name. Repeatable.", examples=[["power_w"]])
]
Devices = Annotated[tuple[str, ...], Query(alias="device", description="Only these devices, by id. Repeatable.")]
Zones = Annotated[tuple[str, ...], Query(alias="zone", description="Only devices of these zones. Repeatable.")]
Start = Annotated[
    str, Query(description="First instant: RFC 3339 with an offset, or relative to now: `-24h`, `-7d`, `now`.")
]
End = Annotated[str, Query(description="First instant that is not included any more; forms as for `start`.")]
Tz = Annotated[str | None, Query(description="IANA time zone of windows and labels. Default: the city's.")]

_SHAPES = 64
"""Sets of parameters for which a route is kept as it is with them."""


class StrictBody(BaseModel):
    """A body that refuses what it does not know, and says what there is; pydantic alone would name the fault only."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        for member in data if isinstance(data, dict) else ():
            if member not in cls.model_fields:
                context = {"member": member, "allowed": list(cls.model_fields)}
                raise PydanticCustomError(UNKNOWN_MEMBER, "there is no such member", context)
        return data


class StrictRoute(APIRoute):
    """A route that refuses what it does not know: a misspelt filter must not be an answer about everything.

    FastAPI reads each parameter that a route has, given or not, which takes longer than all else that is done for a
    small answer. So a request is read by the route as it would be with the parameters alone that are given; the others
    have the defaults of its function, which are those that FastAPI would have found.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler behind the check."""
        repeatable = dict(_parameters(self.dependant))

        @lru_cache(maxsize=_SHAPES)
        def handler(given: frozenset[str]) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            route = copy(self)
            route.dependant = _with(self.dependant, given)
            return super(StrictRoute, route).get_route_handler()

        async def handle_known(request: Request) -> Response:
            _refuse_unknown(request, repeatable)
            return await handler(frozenset(request.query_params))(request)

        return handle_known


def _refuse_unknown(request: Request, repeatable: dict[str, bool]) -> None:
    seen = set()
    for name, value in request.query_params.multi_items():
        if name not in repeatable:
            allowed = sorted(repeatable)
            raise invalid_parameter(name, value, "there is no such parameter here", allowed)
        if "\0" in value:
            raise invalid_parameter(name, value, "holds the character U+0000", ["text without it"])
        if name in seen and not repeatable[name]:
            raise invalid_parameter(name, value, "may be given only once", ["one value"])
        seen.add(name)


def _parameters(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """Names of the query parameters of a route, and whether each may be repeated."""
    for field in dependant.query_params:
        yield field.alias, get_origin(field.field_info.annotation) is tuple
    for dependency in dependant.dependencies:
        yield from _parameters(dependency)


def _with(dependant: Dependant, given: Set[str]) -> Dependant:
    """The same with the query parameters alone that are given or have no default."""
    return replace(
        dependant,
        query_params=[each for each in dependant.query_params if each.alias in given or each.field_info.is_required()],
        dependencies=[_with(each, given) for each in dependant.dependencies],
    )
