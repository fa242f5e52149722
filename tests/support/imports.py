"""Which package imports what: read from the source, without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

Levels = Sequence[frozenset[str]]
"""Names of packages and modules below the root package, from the top of the house to its ground."""


def broken_walls(root: Path, levels: Levels, forbidden: Mapping[str, frozenset[str]]) -> list[str]:
    """Each import that goes up or sideways, or that brings in what a package must not know.

    Args:
        root: folder of the root package; its name is the package's name.
        levels: an import must lead to a lower level; a name that no level holds is a fault, too.
        forbidden: foreign packages by the name of ours that must not know them.
    """
    height = {name: -depth for depth, names in enumerate(levels) for name in names}
    faults = []
    for path in sorted(root.rglob("*.py")):
        owner = _owner(path, root)
        if owner is None:
            continue
        if owner not in height:
            faults.append(f"{owner}: has no level; give it one")
            continue
        for line, module in _imports(path, root):
            reason = _fault(owner, module, root.name, height, forbidden)
            if reason is not None:
                faults.append(f"{path.relative_to(root.parent)}:{line}: {reason}")
    return list(dict.fromkeys(faults))


def _fault(
    owner: str, module: str, package: str, height: Mapping[str, int], forbidden: Mapping[str, frozenset[str]]
) -> str | None:
    first, _, rest = module.partition(".")
    if first != package:
        return f"{owner} must not know {first}" if first in forbidden.get(owner, ()) else None
    imported = rest.partition(".")[0]
    if imported not in height or imported == owner or height[imported] < height[owner]:
        return None
    return f"{owner} must not import {imported}, which is {_relation(height[imported] - height[owner])} it"


def _relation(difference: int) -> str:
    return "beside" if difference == 0 else "above"


def _owner(path: Path, root: Path) -> str | None:
    """The package or module right below the root; None for the root's own `__init__`."""
    first = path.relative_to(root).parts[0]
    name = first.removesuffix(".py")
    return None if name == "__init__" else name


def _imports(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything that a file imports, also inside functions and for type checking only."""
    package = path.relative_to(root.parent).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
