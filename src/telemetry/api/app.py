"""The application: routers, problems, metrics, and the pool for as long as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from fastapi import FastAPI
from fastapi.middleware.gzip import GZipMiddleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES

from telemetry import __version__
from telemetry.api import (
    changes,
    clients,
    devices,
    docs,
    domains,
    health,
    latest,
    ledger,
    meter_swaps,
    metrics,
    problems,
    quarantine,
    readings,
    series,
)
from telemetry.api.negotiation import Format
from telemetry.api.service import Service
from telemetry.domains import load_domains
from telemetry.settings import Settings

COMPRESSED_FROM = 4096
"""Bytes; below, compressing saves no packet."""
_CLOSE_WITHIN_S = 0.5


def create_app(settings: Settings) -> FastAPI:
    """The HTTP service of these settings; it starts while the database is away.

    Raises:
        ConfigurationError: a domain's file is wrong.
    """
    registry = load_domains(settings.domains.directories)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = await Service.start(settings, registry)
        try:
            yield
        finally:
            await asyncio.gather(_close(service.pool), _close(service.probe))

    app = FastAPI(
        title="Urban telemetry",
        version=__version__,
        description=docs.DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_tags=[{"name": name, "description": text} for name, text in docs.TAGS.items()],
        generate_unique_id_function=lambda route: route.name,
    )
    problems.install(app)
    app.add_middleware(
        GZipMiddleware,
        minimum_size=COMPRESSED_FROM,
        # One meter's month of quarters, 399 KB: 29 KB in 0.8 ms; level 5 made 25 KB of it in 1.3 ms.
        compresslevel=3,
        # Compressed within, column by column.
        exclude_content_types=(*DEFAULT_EXCLUDED_CONTENT_TYPES, Format.PARQUET.media_type),
    )
    clients.install(app, settings.api)
    metrics.install(app)
    for module in (
        *(health, metrics, docs, domains, devices, meter_swaps),
        *(quarantine, ledger, series, changes, readings, latest),
    ):
        app.include_router(module.router, responses=clients.REFUSALS if module.router.prefix else None)
    return app


async def _close(pool: asyncpg.Pool) -> None:
    """Lets running queries end, in time by force."""
    try:
        await asyncio.wait_for(pool.close(), _CLOSE_WITHIN_S)
    except TimeoutError:
        pool.terminate()
