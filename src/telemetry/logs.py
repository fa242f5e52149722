"""What the processes say on standard error: each line a stable event name, a sentence and facts."""

from __future__ import annotations

import logging
import sys

import structlog

from telemetry.errors import TelemetryError
from telemetry.settings import LoggingSettings


def is_json(settings: LoggingSettings) -> bool:
    """Whether lines are JSON, for programs, and not for the eye."""
    return settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())


def configure_logging(settings: LoggingSettings) -> None:
    """Sets up structlog, and the standard library's logging to speak through it."""
    json = is_json(settings)
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if json
        # By default it shows the values of all variables, and there are passwords among them.
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    errors = [structlog.processors.format_exc_info] if json else []
    structlog.configure(
        processors=[*shared, *errors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *errors, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def log_end(service: str, consequence: str, error: TelemetryError) -> None:
    """The last line of a service that an error has ended; its text is the one that a person would read on a terminal.

    Args:
        consequence: one sentence on what the end means.
    """
    facts: dict[str, object] = {"consequence": consequence}
    if (state := _sqlstate(error)) is not None:
        facts["sqlstate"] = state
    structlog.get_logger().error(f"{service}_failed", detail=str(error), **facts)


def _sqlstate(error: BaseException | None) -> str | None:
    """What PostgreSQL called the error, or the one behind it."""
    while error is not None:
        if isinstance(state := getattr(error, "sqlstate", None), str):
            return state
        error = error.__cause__
    return None
