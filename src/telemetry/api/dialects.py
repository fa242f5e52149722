"""CSV for programs (RFC 4180), and CSV as an Excel set to French opens it: by a double click, with dates and numbers.

Excel takes separator and decimal sign from the country that the computer is set to, and reads no time with an offset.
So its dialect has semicolons, decimal commas, local times, and the offset in a column of its own.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from telemetry.api.blocks import numbers

OFFSET = "utc_offset"
"""Column of the offset in the dialect of Excel."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How text begins that Excel would calculate."""
_PLAIN = re.compile(r"[\w.:-]*")


def cell(value: Any) -> str:
    """A value as text: null is empty, what is no text is as in JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the cells of a line are written."""

    is_excel: bool = False

    @property
    def delimiter(self) -> str:
        """Between two cells."""
        return ";" if self.is_excel else ","

    @property
    def beginning(self) -> str:
        """What comes before the header: to Excel a mark that this is UTF-8."""
        return "\N{ZERO WIDTH NO-BREAK SPACE}" if self.is_excel else ""

    def header(self, *names: str) -> str:
        """The first line, of which the first column is a time."""
        first, *others = names
        lines = Lines(self)
        lines.write([first, *([OFFSET] if self.is_excel else []), *others])
        return self.beginning + "".join(lines.take())

    def instant(self, text: str) -> list[str]:
        """The cells of an RFC 3339 time with an offset."""
        if not self.is_excel:
            return [text]
        return [self.local(text), text[_offset_at(text) :]]

    def local(self, text: str) -> str:
        """A time in a single cell."""
        return text[: _offset_at(text)].replace("T", " ").replace(".", ",") if self.is_excel else text

    def cell(self, value: Any) -> str:
        """Any other value."""
        if self.is_excel:
            if isinstance(value, float):
                return json.dumps(value).replace(".", ",")
            if isinstance(value, str) and value.startswith(_FORMULA):
                return f"'{value}"
        return cell(value)

    def quoted(self, text: str) -> str:
        """A cell as it stands in a line."""
        if _PLAIN.fullmatch(text):
            return text
        lines = Lines(self)
        lines.write([text, ""])
        return lines.take()[0].removesuffix(self.delimiter)

    def numbers(self, column: Sequence[float | None]) -> list[str]:
        """The cells of many numbers."""
        texts = numbers(column)
        if self.is_excel:
            texts = [text.replace(".", ",") for text in texts]
        return ["" if text == "null" else text for text in texts] if None in column else texts


def _offset_at(text: str) -> int:
    """Where the offset of an RFC 3339 time begins; before 1972 some have seconds."""
    return max(text.rfind("+"), text.rfind("-"))


class Lines:
    """Lines of CSV."""

    def __init__(self, dialect: Dialect) -> None:
        self._text = io.StringIO()
        self._writer = csv.writer(self._text, delimiter=dialect.delimiter)

    def write(self, cells: list[Any]) -> None:
        """Adds a line."""
        self._writer.writerow(cells)

    def write_all(self, rows: Iterable[Sequence[Any]]) -> None:
        """Adds lines."""
        self._writer.writerows(rows)

    def take(self) -> list[str]:
        """All lines, as one text without the last line end; none as none."""
        text = self._text.getvalue().removesuffix("\r\n")
        return [text] if text else []
