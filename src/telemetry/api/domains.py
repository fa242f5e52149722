"""`GET /v1/domains`: what can be asked for."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from telemetry.api.bodies import json_response
from telemetry.api.documentation import documented
from telemetry.api.parameters import StrictRoute
from telemetry.api.schemas import ANY_NUMBER, TEXT
from telemetry.api.service import TheService
from telemetry.domains import Domain, Metric
from telemetry.query.aggregates import available

router = APIRouter(prefix="/v1", tags=["domains"], route_class=StrictRoute)


@router.get(
    "/domains",
    summary="Domains, metrics, units, kinds",
    **documented(
        {
            "data": [
                {
                    "name": "lighting",
                    "title": "Street lighting",
                    "description": "A street lamp or its controller …",
                    "metrics": [
                        {
                            "name": "power_w",
                            "unit": "W",
                            "kind": "gauge",
                            "type": "number",
                            "description": "Active power drawn by the luminaire",
                            "minimum": 0.0,
                            "maximum": 10000.0,
                            "options": [],
                            "glitch": None,
                            "aggregates": ["avg", "min", "max", "sum", "count", "first", "last"],
                            "default_aggregate": "avg",
                        }
                    ],
                }
            ]
        },
        overrides={
            "minimum": ANY_NUMBER,
            "maximum": ANY_NUMBER,
            "glitch": ANY_NUMBER,
            "options": {"type": "array", "items": TEXT},
        },
        questions={"Everything that can be asked for": "/v1/domains"},
        problems=(422,),
    ),
)
async def domains(service: TheService) -> Response:
    """Every domain with its metrics: unit, kind, valid range, and the aggregates that make sense for it."""
    return json_response([_domain(each) for each in service.registry.values()])


def _domain(domain: Domain) -> dict[str, Any]:
    return {
        "name": domain.name,
        "title": domain.title,
        "description": domain.description,
        "metrics": [_metric(metric) for metric in domain.metrics.values()],
    }


def _metric(metric: Metric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "unit": metric.unit,
        "kind": metric.kind,
        "type": metric.value_type,
        "description": metric.description,
        "minimum": metric.minimum,
        "maximum": metric.maximum,
        "options": metric.options,
        "glitch": metric.glitch,
        "aggregates": available(metric),
        "default_aggregate": metric.default_aggregate,
    }
