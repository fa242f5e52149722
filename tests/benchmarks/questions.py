"""The questions whose latency is measured, as the HTTP service is asked and as SQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from telemetry.domains import load_domains
from telemetry.query.calendar import bucket_edges
from telemetry.query.partials import columns_statement, rows_statement
from telemetry.query.plan import make_plan
from telemetry.query.question import Asked, understand
from telemetry.query.scope import find_scope
from telemetry.query.sql import Statement
from tests.benchmarks.past import DOMAIN, Past
from tests.benchmarks.wire import address

ZONE: Final = "Europe/Paris"
METRIC: Final = "active_power_w"
FORMS: Final = ("json", "csv", "arrow")
_MARGIN = timedelta(days=2)


@dataclass(frozen=True)
class Ask:
    """A question about the last so many hours of a past."""

    name: str
    hours: int
    window: str = "1h"
    by: str = "none"
    devices: int = 0

    def parameters(self, past: Past) -> dict[str, Any]:
        """As the service takes them."""
        return {
            "metric": (METRIC,),
            "start": (past.end - timedelta(hours=self.hours)).isoformat(),
            "end": past.end.isoformat(),
            "window": self.window,
            "by": self.by,
            "tz": ZONE,
            "device": tuple(f"meter-{number}" for number in range(1, self.devices + 1)),
        }

    def path(self, past: Past, form: str = "json") -> str:
        """As the service is asked."""
        return address("series", self.parameters(past) | {"format": form})


def asks(past: Past) -> list[Ask]:
    """Answers of about 25, 700 and 10,000 rows, of all meters and of few."""
    hours = min(30, past.days) * 24
    return [
        Ask("all meters, a day", 25),
        Ask("all meters, 30 days", hours),
        Ask("each meter, hours", min(hours, 10_000 // past.meters), by="device"),
        Ask("one meter, a day", 25, by="device", devices=1),
        Ask("one meter, 30 days", hours, by="device", devices=1),
        Ask("14 meters, 30 days", hours, by="device", devices=14),
    ]


async def same_sql(database: asyncpg.Connection, ask: Ask, past: Past) -> tuple[Statement, Statement]:
    """The statement that the service makes of a question, and the same with a record for each row, as anybody asks."""
    question = understand(load_domains()[DOMAIN], Asked(**ask.parameters(past)), ZONE, datetime.now(UTC))
    scope = await find_scope(database, question, _MARGIN)
    edges = bucket_edges(question.window, question.start, question.end, question.zone)
    plan = make_plan(question, edges, scope.late, scope.city_zone)
    columns, rows = (make(plan, scope.device_keys, 500_001) for make in (columns_statement, rows_statement))
    return columns, rows
