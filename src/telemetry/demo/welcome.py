"""What a new user is told once the city is there: where everything is, and what to try."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from telemetry.demo import http
from telemetry.demo.folder import DemoFolder
from telemetry.demo.services import Services
from telemetry.demo.view import Welcome

QUESTIONS = (
    (
        "The mean power of a lamp in each zone, hour by hour",
        "lighting/series?metric=power_w&start=-24h&window=1h&by=zone",
    ),
    (
        "The highest power of each building, day by day",
        "energy/series?metric=active_power_w&agg=max&start=-2d&window=1d&by=device",
    ),
    ("The proof that nothing was lost", "ledger"),
)
"""What to ask first: a sentence, and the route below `/v1/`."""


async def welcome(running: Services, folder: DemoFolder, start_s: float) -> Welcome:
    """What runs where, asked from the running services."""
    mqtt = running.settings.mqtt
    facts = {
        "api": running.api_url,
        "docs": f"{running.api_url}/docs",
        "mqtt": f"mqtt://{mqtt.host}:{mqtt.port}",
        "database": running.settings.database.url.get_secret_value(),
        "settings": str(folder.settings),
        "start_s": round(start_s, 1),
    }
    if await http.get(f"{running.api_url}/") is not None:
        facts = {"console": f"{running.api_url}/", **facts}
    return Welcome(facts, _text(facts, running, folder))


def _text(facts: dict[str, Any], running: Services, folder: DemoFolder) -> str:
    places = {
        "Console": facts.get("console"),
        "HTTP API": facts["docs"],
        "MQTT": f"{facts['mqtt']}  {running.settings.mqtt.topic_root}/{{domain}}/{{device_id}}",
        "PostgreSQL": facts["database"],
        "Data, logs": folder.path,
    }
    lines = [f"  [dim]{name:<12}[/]{escape(str(place))}" for name, place in places.items() if place]
    for sentence, route in QUESTIONS:
        lines += ["", f"  [dim]{sentence}:[/]", f"  curl '{running.api_url}/v1/{escape(route)}'"]
    lines += ["", "  [dim]Ctrl-C stops all of it. Started again, it goes on with the same data.[/]"]
    return "\n".join(lines)
