"""`/docs`: the reference as a page of our own, which needs nothing from elsewhere.

The usual pages load their scripts from the internet; a server in a control room has none.
"""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response

DESCRIPTION = """\
City sensor readings as exact time windows. Times are RFC 3339 with an offset, or relative to now (`-24h`, `now`);
ranges are half-open; windows follow the calendar of the asked time zone. What cannot be answered as asked is refused
with a problem (RFC 9457) that names the parameter, what was given and what is allowed.
"""

TAGS = {
    "series": "Aggregated time windows.",
    "readings": "Raw rows.",
    "latest": "The last values.",
    "domains": "What can be asked for.",
    "devices": "The registry.",
    "ledger": "The proof that nothing was lost.",
    "quarantine": "What was refused and why.",
    "service": "The state of the service itself.",
}
"""The parts of the reference, in the order of the page."""

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs() -> Response:
    """The reference, made in the browser from `/openapi.json`."""
    page = files("telemetry.api").joinpath("docs.html").read_bytes()
    return Response(page, media_type="text/html; charset=utf-8")
