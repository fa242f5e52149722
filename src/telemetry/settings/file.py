"""The settings file: sections and their settings in YAML. A key that is there twice is refused, as YAML demands; the
parser alone would take the last one without a word.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final

import yaml

from telemetry.errors import ConfigurationError

_TEXT: Final = "tag:yaml.org,2002:str"
_MERGE: Final = "tag:yaml.org,2002:merge"


def read_settings(path: Path) -> dict[str, Any]:
    """What is in the file; nothing where it is empty.

    Raises:
        ConfigurationError: it holds no settings, or one of them twice.
        OSError, UnicodeDecodeError, yaml.YAMLError: it cannot be read.
    """
    with path.open(encoding="utf-8") as file:
        content = yaml.load(file, _Loader)  # noqa: S506 - it is a SafeLoader
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"the settings file {path} holds {_KINDS.get(type(content), 'a single value')}; sections with settings are "
            "needed, e.g. `mqtt:` and below it, indented, `port: 1883`"
        )
    return content


class _Loader(yaml.SafeLoader):
    """Refuses keys that are there twice, and keys that are no text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping, once its keys are looked at; what `<<` merges into it may be overridden."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == _MERGE:
                continue
            place, line = f"the settings file {self.name}, line {key.start_mark.line + 1}", key.start_mark.line + 1
            if key.tag != _TEXT:
                raise ConfigurationError(f"{place}: the name of a setting is needed before the colon")
            if key.value in lines:
                raise ConfigurationError(
                    f"{place}: {key.value} is there already, in line {lines[key.value]}; leave one of the two"
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep)


_KINDS: Final[dict[type, str]] = {list: "a list", str: "a text"}
