"""Asking the demo's own HTTP service, with nothing but the standard library."""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode


async def get(url: str, parameters: Mapping[str, str] | None = None, within_s: float = 10.0) -> str | None:
    """The body of a 200 answer, or None when there is no such answer (yet)."""
    address = f"{url}?{urlencode(parameters)}" if parameters else url
    return await asyncio.to_thread(_get, address, within_s)


async def get_json(url: str, parameters: Mapping[str, str] | None = None) -> Any:
    """The JSON of a 200 answer, or None when there is no such answer."""
    body = await get(url, parameters)
    return None if body is None else json.loads(body)


def _get(url: str, within_s: float) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=within_s) as answer:  # noqa: S310 - our own http:// address
            text: str = answer.read().decode()
            return text
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError):
        return None


def metric(text: str, name: str) -> float | None:
    """The value of an unlabelled sample in a Prometheus text, or the sum over its labels; None when it is not there."""
    values = [float(line.rpartition(" ")[2]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name]
    return sum(values) if values else None
