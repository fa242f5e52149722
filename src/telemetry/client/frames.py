"""Answers that come as an Arrow stream, and what can be made of them: rows, Arrow, Polars, pandas.

The libraries are imported when they are needed, for each takes time and memory that not everybody has use for.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from telemetry.client.errors import MissingLibrary, UnexpectedAnswer
from telemetry.client.exchange import Answer

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

META = b"meta"
"""Key of the schema's metadata under which is what JSON has in `meta`."""


class Frame:
    """Rows in typed columns (docs/exports.md lists them)."""

    table: pa.Table

    def to_arrow(self) -> pa.Table:
        """The rows as they came."""
        return self.table

    def to_polars(self) -> pl.DataFrame:
        """The rows as a Polars frame; times are `Datetime` in the time zone.

        Raises:
            MissingLibrary: Polars is not installed.
        """
        frame: pl.DataFrame = library("polars", "polars").from_arrow(self.table)
        return frame

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a pandas frame; times are `datetime64` in the time zone.

        Raises:
            MissingLibrary: pandas is not installed.
        """
        library("pandas", "pandas")
        return self.table.to_pandas()


def library(name: str, extra: str | None = None) -> Any:
    """The module of that name.

    Raises:
        MissingLibrary: it is not installed; names the extra of this package that brings it.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise MissingLibrary(error.name, extra) from error


def arrow_table(answer: Answer) -> pa.Table:
    """The table of an Arrow stream.

    Raises:
        UnexpectedAnswer: it is none.
    """
    pyarrow = library("pyarrow.ipc") and library("pyarrow")
    try:
        with pyarrow.ipc.open_stream(io.BytesIO(answer.content)) as stream:
            table = stream.read_all()
    except pyarrow.ArrowInvalid as error:
        raise UnexpectedAnswer(f"the answer is no Arrow stream: {error}") from error
    if META not in (table.schema.metadata or {}):
        raise UnexpectedAnswer("the Arrow stream does not tell what it is about (no 'meta' in its schema)")
    return table


def cells(table: pa.Table, name: str) -> list[Any]:
    """A column as Python values. Times have a fixed offset: Python takes both passes of a repeated hour for the same
    when their time zone is the same object.
    """
    values: list[Any] = table.column(name).to_pylist()
    if values and isinstance(values[0], datetime):
        return _with_offsets(values)
    return values


def as_number(value: object, what: str) -> float | None:
    """A value that is a number, or None.

    Raises:
        TypeError: it is a state, or has a number for each word.
    """
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise TypeError(f"{what} is no number: {value!r}")


def _with_offsets(instants: Sequence[datetime]) -> list[datetime]:
    fixed: dict[tuple[datetime, int], datetime] = {}
    for each in instants:
        if (each, each.fold) not in fixed:
            offset = each.utcoffset()
            assert offset is not None
            fixed[each, each.fold] = each.replace(tzinfo=_offset(offset.total_seconds()), fold=0)
    return [fixed[each, each.fold] for each in instants]


@lru_cache(maxsize=256)
def _offset(seconds: float) -> timezone:
    return timezone(timedelta(seconds=seconds))
