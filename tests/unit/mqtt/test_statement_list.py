"""Every normative statement of MQTT 5 has a test that names it, or a reason for none, in docs/mqtt-statements.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
DOCUMENT: Final = ROOT / "docs" / "mqtt-statements.md"
STATEMENT: Final = re.compile(r"MQTT-\d+\.\d+\.\d+-\d+")
ROW: Final = re.compile(r"^\| (MQTT-[\d.-]+) \| (.+) \|$", re.MULTILINE)

LAST: Final = {
    **{"1.5.4": 3, "1.5.5": 1, "1.5.7": 1, "2.1.3": 1, "2.2.1": 6, "2.2.2": 1},
    **{"3.1.0": 2, "3.1.2": 30, "3.1.3": 12, "3.1.4": 6, "3.2.0": 2, "3.2.2": 22},
    **{"3.3.1": 13, "3.3.2": 20, "3.3.4": 10, "3.4.2": 3, "3.5.2": 3, "3.6.1": 1, "3.6.2": 3, "3.7.2": 3},
    **{"3.8.1": 1, "3.8.3": 5, "3.8.4": 8, "3.9.2": 2, "3.9.3": 2, "3.10.1": 1, "3.10.3": 2, "3.10.4": 6},
    **{"3.11.2": 2, "3.11.3": 2, "3.12.4": 1, "3.14.0": 1, "3.14.1": 1, "3.14.2": 4, "3.14.4": 3},
    **{"3.15.1": 1, "3.15.2": 3, "4.1.0": 2, "4.2.0": 1, "4.3.1": 1, "4.3.2": 5, "4.3.3": 13, "4.4.0": 2},
    **{"4.5.0": 2, "4.6.0": 6, "4.7.0": 1, "4.7.1": 2, "4.7.2": 1, "4.7.3": 4, "4.8.2": 6, "4.9.0": 3},
    **{"4.12.0": 7, "4.12.1": 2, "4.13.1": 1, "4.13.2": 1, "6.0.0": 4},
}
"""The last number of each section in appendix B; they are counted from 1, but for 2.2.1, which begins with 2."""


def listed() -> list[str]:
    """All statements of the standard, in order."""
    return [
        f"MQTT-{section}-{number}"
        for section, last in LAST.items()
        for number in range(2 if section == "2.2.1" else 1, last + 1)
    ]


def named() -> dict[str, list[str]]:
    """The tests whose docstring names a statement."""
    found: dict[str, list[str]] = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for statement in dict.fromkeys(STATEMENT.findall(ast.get_docstring(node) or "")):
                    found.setdefault(statement, []).append(node.name)
    return found


def rows() -> dict[str, str]:
    """What the document says of each statement."""
    return dict(ROW.findall(DOCUMENT.read_text(encoding="utf-8")))


def test_statements_are_all_in_the_document() -> None:
    assert list(rows()) == listed()


def test_statements_of_the_tests_are_in_the_standard() -> None:
    assert set(named()) <= set(listed())


def test_statements_have_their_tests_or_a_reason() -> None:
    found = named()
    for statement, said in rows().items():
        if names := found.get(statement):
            assert said.partition(": ")[2] == ", ".join(f"`{name}`" for name in names), statement
        else:
            assert "test_" not in said, statement
            assert len(said.split()) > 2, statement
