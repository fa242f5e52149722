"""The domains that are there: found by loading every file of the package's folder and of further folders."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from telemetry.domains.metric import Metric
from telemetry.domains.reading import Reading
from telemetry.errors import ConfigurationError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SCAFFOLD = {"__init__", "metric", "reading", "registry"}
RESERVED = frozenset({"devices", "domains", "ledger", "live", "quarantine", "unknown", "changes"})
"""Names that are routes or ledger entries of their own and cannot be domains."""


@dataclass(frozen=True)
class Domain:
    """A family of sensors that measure the same things.

    Attributes:
        name: path segment, topic segment and prefix of the tables (`lighting`).
        title: for people.
        model: the Pydantic model of one reading.
    """

    name: str
    title: str
    model: type[Reading]

    @property
    def description(self) -> str:
        """First paragraph of the model's docstring."""
        return " ".join((self.model.__doc__ or "").split("\n\n")[0].split())

    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics by name, in the model's order."""
        found = (Metric.of(name, field) for name, field in self.model.model_fields.items())
        return {metric.name: metric for metric in found if metric is not None}


class Registry(Mapping[str, Domain]):
    """The domains by name, sorted."""

    def __init__(self, domains: Iterable[Domain]) -> None:
        self._domains = {each.name: each for each in sorted(domains, key=lambda each: each.name)}

    def __getitem__(self, name: str) -> Domain:
        return self._domains[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._domains)

    def __len__(self) -> int:
        return len(self._domains)


_declared: dict[str, Domain] = {}
"""By name of the module that declares it: one file, one domain."""


def domain(name: str, *, title: str) -> Callable[[type[Reading]], type[Reading]]:
    """Declares a model as the domain of that name; the decorator of every domain file.

    Raises:
        ConfigurationError: the name cannot be a table and a route, or the file declares a second domain.
    """

    def declare(model: type[Reading]) -> type[Reading]:
        if not _NAME.fullmatch(name) or name in RESERVED:
            raise ConfigurationError(
                f"domain name {name!r}: lower-case letters, digits and _ from a letter on, none of {sorted(RESERVED)}"
            )
        if model.__module__ in _declared:
            raise ConfigurationError(f"{model.__module__} declares more than one domain; one file holds one")
        _declared[model.__module__] = Domain(name, title, model)
        return model

    return declare


def load_domains(directories: Iterable[Path] = ()) -> Registry:
    """Loads the built-in domains and those in further folders, each `*.py` one domain.

    Raises:
        ConfigurationError: a folder is missing, a file declares no domain, or two files declare the same one.
    """
    loaded: dict[str, Domain] = {}
    for module in (*_built_in(), *_further(directories)):
        found = _declared.get(module)
        if found is None:
            raise ConfigurationError(f"{module} declares no domain; its model needs the decorator @domain(...)")
        if found.name in loaded:
            raise ConfigurationError(f"{module} declares the domain {found.name!r}, which is already there")
        loaded[found.name] = found
    return Registry(loaded.values())


def _built_in() -> Iterator[str]:
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in _SCAFFOLD:
            yield importlib.import_module(f"telemetry.domains.{path.stem}").__name__


def _further(directories: Iterable[Path]) -> Iterator[str]:
    for directory in directories:
        if not Path(directory).is_dir():
            raise ConfigurationError(f"domains.directories: {directory} is not a folder")
        for path in sorted(Path(directory).glob("*.py")):
            name = f"telemetry.domains.further:{path}"
            _declared.pop(name, None)
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            # Pydantic resolves the annotations of a model through its registered module.
            sys.modules[name] = module
            spec.loader.exec_module(module)
            yield name
