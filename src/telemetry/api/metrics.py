"""`/metrics` for Prometheus: requests by route, and whether the ledger balances."""

from __future__ import annotations

import time
from http import HTTPStatus

import asyncpg
import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry.api.documentation import documented
from telemetry.api.parameters import StrictRoute
from telemetry.api.service import Service, TheService
from telemetry.errors import TelemetryError
from telemetry.query.ledger import imbalances
from telemetry.store.failures import in_words

log = structlog.get_logger()

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WITHIN_S = 5.0

router = APIRouter(tags=["service"], route_class=StrictRoute)


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "telemetry_http_requests", "Requests answered", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "telemetry_http_request_duration_seconds",
            "From the first byte of a request to the last of its answer",
            ("method", "route"),
            registry=self.registry,
            buckets=BUCKETS,
        )
        self.imbalance = Gauge(
            "telemetry_ledger_imbalance",
            "Readings received that are neither stored, duplicate nor quarantined: 0, or something was lost",
            ("domain",),
            registry=self.registry,
        )


class MeasureRequests:
    """ASGI middleware that counts and times requests by their route's template."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            # Only routes that exist are labels: a scanner that tries paths must not fill the memory.
            route = getattr(scope.get("route"), "path", "")
            method = scope["method"] if route else ""
            self._metrics.requests.labels(method, route, status).inc()
            self._metrics.seconds.labels(method, route).observe(time.perf_counter() - began)


def install(app: FastAPI) -> None:
    """Measures every request of the app."""
    app.state.metrics = Metrics()
    app.add_middleware(MeasureRequests, metrics=app.state.metrics)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
    **documented('telemetry_ledger_imbalance{domain="lighting"} 0.0', problems=()),
)
async def metrics(request: Request, service: TheService) -> Response:
    """Text format of Prometheus. While the database is away, the ledger's gauge is absent."""
    found: Metrics = request.app.state.metrics
    await _refresh_imbalance(found, service)
    return Response(generate_latest(found.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _refresh_imbalance(found: Metrics, service: Service) -> None:
    found.imbalance.clear()
    try:
        async with service.probe.acquire(timeout=_WITHIN_S) as connection:
            for domain, imbalance in await imbalances(connection, _WITHIN_S):
                found.imbalance.labels(domain).set(imbalance)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, TelemetryError) as error:
        log.warning("api_ledger_unknown", detail="The ledger cannot be read for /metrics.", error=in_words(error))
