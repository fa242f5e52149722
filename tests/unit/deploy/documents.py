"""The guides in docs/, taken apart for tests."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def text(name: str) -> str:
    """A guide by its name without the ending."""
    return (ROOT / "docs" / f"{name}.md").read_text()


def fenced(document: str, language: str) -> list[str]:
    """The code blocks of a language, with their indent taken off."""
    pattern = rf"^( *)```{language}\n(.*?)^ *```$"
    found = re.findall(pattern, document, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in found]


def tables(document: str) -> list[list[list[str]]]:
    """The tables as rows of cells, without the line below the heading."""
    found: list[list[list[str]]] = []
    before = ""
    for line in document.splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                found.append([])
            if not re.fullmatch(r"[|\s-]+", line):
                found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        before = line
    return found


def code_words(document: str) -> list[str]:
    """What stands between backticks, outside of code blocks."""
    prose = re.sub(r"^ *```.*?^ *```$", "", document, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+)`", prose)
