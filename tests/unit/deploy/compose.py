"""deploy/compose/compose.yaml as Compose would run it, read for tests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "compose"
Service = dict[str, Any]

_VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\})")


@cache
def project() -> dict[str, Any]:
    """The whole file, its variables at their defaults."""
    found: dict[str, Any] = interpolated(yaml.safe_load((FOLDER / "compose.yaml").read_text()), {})
    return found


def services() -> dict[str, Service]:
    """The services by name."""
    found: dict[str, Service] = project()["services"]
    return found


def ours() -> dict[str, Service]:
    """The services that run a `telemetry` command."""
    return {name: service for name, service in services().items() if "build" in service}


def environment(service: Service) -> dict[str, str]:
    """The variables of a container."""
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def variables() -> dict[str, str | None]:
    """The variables that the file takes from .env, with their defaults."""
    text = (FOLDER / "compose.yaml").read_text()
    return {match["name"]: match["default"] for match in _VARIABLE.finditer(text) if match["name"]}


def interpolated(value: Any, given: Mapping[str, str]) -> Any:
    """A copy with `${NAME:-default}` replaced, and `$$` by one dollar sign."""
    if isinstance(value, dict):
        return {key: interpolated(each, given) for key, each in value.items()}
    if isinstance(value, list):
        return [interpolated(each, given) for each in value]
    return _VARIABLE.sub(lambda match: _replacement(match, given), value) if isinstance(value, str) else value


def _replacement(match: re.Match[str], given: Mapping[str, str]) -> str:
    if match["escaped"]:
        return "$"
    value = given.get(match["name"], match["default"])
    if value is None:
        raise LookupError(f"{match[0]} has no default")
    return value


def mounted(service: Service) -> dict[str, str]:
    """Folders and volumes by the place in the container."""
    pairs = [volume.split(":")[:2] for volume in service.get("volumes", [])]
    return {target: source for source, target in pairs}
