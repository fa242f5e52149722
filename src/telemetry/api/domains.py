"""`GET /v1/domains`: what can be asked for."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from telemetry.api.bodies import json_response
from telemetry.api.parameters import StrictRoute
from telemetry.api.service import TheService
from telemetry.domains import Domain, Metric
from telemetry.query.aggregates import available

router = APIRouter(prefix="/v1", tags=["domains"], route_class=StrictRoute)


@router.get("/domains", summary="Domains, metrics, units, kinds")
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
        "aggregates": available(metric),
        "default_aggregate": metric.default_aggregate,
    }
