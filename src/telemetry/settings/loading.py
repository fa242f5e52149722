"""Where settings come from: the file, `TELEMETRY_…` variables, flags; and what is said where they are wrong."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
)

from telemetry.errors import ConfigurationError
from telemetry.settings.file import read_settings
from telemetry.settings.model import PREFIX, Settings

SEARCHED = (Path("config/telemetry.yaml"), Path("/etc/telemetry/telemetry.yaml"))
"""Where the settings file is looked for when neither `--config` nor `TELEMETRY_CONFIG` names one."""

_INJECTED = re.compile(
    r"""(?x) TELEMETRY (_[A-Z0-9]+)*? (
      _SERVICE_HOST=.* | _SERVICE_PORT(_[A-Z0-9_]+)?=[0-9]+      # Kubernetes
    | _PORT(_[0-9]+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://.*         # Kubernetes and links of Docker
    | _PORT_[0-9]+_(TCP|UDP|SCTP)_(ADDR|PORT|PROTO)=.*
    | _NAME=/.*/.* | _ENV_.*                                     # links of Docker
    )""",
    re.DOTALL,
)
"""What is put into our environment for a Service, or for a linked container, whose name begins with `telemetry`. The
value counts as well: `TELEMETRY_API_PORT=8001` is a misspelt setting."""


def load_settings(config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Reads the file, the variables and the overrides, in rising order of precedence.

    Args:
        config: the settings file; otherwise `TELEMETRY_CONFIG`, then the searched places; none at all is fine.
        overrides: dotted names to values, as flags give them (`{"mqtt.port": 1884}`).

    Raises:
        ConfigurationError: the file is missing or not YAML, or a value is wrong; every fault is named.
    """
    path = settings_path(config)
    given = _nested(overrides or {})
    try:
        written = read_settings(path) if path is not None else {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"cannot read the settings file {path}: {error}") from error

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            assert isinstance(env_settings, EnvSettingsSource)
            env_settings.env_vars = _variables()
            return init_settings, env_settings, InitSettingsSource(settings_cls, written)

    try:
        return Loaded(**given)
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None
    except SettingsError as error:
        raise ConfigurationError(f"a TELEMETRY_ variable cannot be read: {error}") from error


def settings_path(config: Path | None = None) -> Path | None:
    """The settings file that `load_settings` reads, or None."""
    variable = f"{PREFIX}CONFIG"
    named = config or (Path(os.environ[variable]) if os.environ.get(variable) else None)
    if named is not None and not named.is_file():
        raise ConfigurationError(f"the settings file {named} does not exist; --config or {variable} named it")
    return named or next((path for path in SEARCHED if path.is_file()), None)


def _variables() -> dict[str, str | None]:
    """The variables as pydantic-settings wants them, `…_FILE` replaced by the content of the file that it names.

    A variable that names no setting is refused: a misspelt one would otherwise be ignored without a word.

    Raises:
        ConfigurationError: such a variable, or one that holds no JSON where a list or a section is needed.
    """
    found: dict[str, str | None] = {}
    for variable, value in sorted(os.environ.items()):
        if not variable.startswith(PREFIX) or variable == f"{PREFIX}CONFIG" or variable.startswith(f"{PREFIX}TEST_"):
            continue
        if "__" not in variable and _INJECTED.fullmatch(f"{variable}={value}"):
            continue
        name = variable
        if name.endswith("_FILE") and _setting(name) is None:
            name, value = name.removesuffix("_FILE"), _read_secret(variable, value)
        setting = _setting(name)
        if setting is None:
            raise ConfigurationError(f"{variable} names no setting; `telemetry config show` lists them all")
        _require_json(variable, value, setting)
        found[name.lower()] = value
    return found


def _setting(name: str) -> FieldInfo | None:
    """The setting or section of that variable."""
    model: type[BaseModel] = Settings
    *sections, last = name.removeprefix(PREFIX).lower().split("__")
    for section in sections:
        inner = _section(model.model_fields.get(section))
        if inner is None:
            return None
        model = inner
    return model.model_fields.get(last)


def _section(field: FieldInfo | None) -> type[BaseModel] | None:
    inner = None if field is None else field.annotation
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def _require_json(variable: str, value: str, setting: FieldInfo) -> None:
    """Lists and whole sections are read as JSON; what is none would be told without the name of the variable."""
    kind: type
    if get_origin(setting.annotation) is list:
        needed, kind = """a JSON list is needed, e.g. ["one", "two"], or [] for none""", list
    elif _section(setting) is not None:
        needed, kind = f"""a JSON object is needed; or give single settings, as {variable}__… variables""", dict
    else:
        return
    try:
        fits = isinstance(json.loads(value), kind)
    except ValueError:
        fits = False
    if not fits:
        raise ConfigurationError(f"{variable}: {needed}")


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"{variable}: cannot read {path}: {error.strerror}") from error


def _nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in dotted.items():
        *sections, last = name.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise ConfigurationError(
                    f"{name}: {section} was given a value of its own, and can have nothing below it"
                )
        node[last] = value
    return tree


def _explain(error: ValidationError) -> str:
    lines = []
    for fault in error.errors(include_url=False):
        name = ".".join(str(part) for part in fault["loc"]) or "settings"
        said = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            lines.append(f"{name}: there is no such setting; `telemetry config show` lists them all")
        elif any(secret in name for secret in ("password", "url")):
            lines.append(f"{name}: {said}")
        else:
            given = f" (given: {fault['input']!r})" if fault["loc"] else ""
            lines.append(f"{name}: {said}{given}")
    return "\n".join(lines)
