"""Whether the process lives, whether it can answer, and what it is."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from telemetry import __version__
from telemetry.api.bodies import json_response
from telemetry.api.documentation import documented
from telemetry.api.parameters import StrictRoute
from telemetry.api.problems import RETRY_AFTER_S, Problem, unavailable
from telemetry.api.service import READY_WITHIN_S, Service, TheService
from telemetry.errors import ConfigurationError
from telemetry.store.migrate import check

router = APIRouter(tags=["service"], route_class=StrictRoute)


@router.get("/livez", summary="Does the process live?", **documented({"status": "ok"}, problems=()))
async def livez() -> Response:
    """Answers as long as the process does, whatever became of the database."""
    return Response(b'{"status":"ok"}', media_type="application/json")


@router.get(
    "/readyz",
    summary="Can it answer?",
    **documented({"status": "ready", "engine": "timescaledb"}, problems=(503,)),
)
async def readyz(request: Request, service: TheService) -> Response:
    """200 while the database can be reached and is migrated; otherwise 503 with the reason."""
    async with service.probe.acquire(timeout=READY_WITHIN_S) as connection:
        engine = await connection.fetchval("SELECT value FROM telemetry_meta WHERE key = 'engine'")
    try:
        await _require_migrated(service)
    except Problem as problem:
        return problem.response(request, {"Retry-After": str(RETRY_AFTER_S)})
    return Response(b'{"status":"ready","engine":"' + engine.encode() + b'"}', media_type="application/json")


async def _require_migrated(service: Service) -> None:
    if service.is_migrated:
        return
    try:
        problems = await check(service.settings)
    except ConfigurationError as error:
        problems = [str(error)]
    if problems:
        raise unavailable("not-migrated", "; ".join(problems))
    service.is_migrated = True


@router.get(
    "/version",
    summary="What runs here?",
    **documented({"data": {"name": "urban-telemetry", "version": __version__}}, problems=()),
)
async def get_version() -> Response:
    """Name and version of the service."""
    return json_response({"name": "urban-telemetry", "version": __version__})
