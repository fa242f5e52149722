"""Answers as tables with typed columns: an Arrow stream, or a Parquet file that is written row group by row group.

What JSON has in `meta` is in the metadata of the schema, as JSON under the key `meta`. Text is plain, not
dictionary-encoded: every reader takes it, Parquet makes dictionaries of its own, and `gzip` does the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic_core import to_json

from telemetry.api.negotiation import Format

VALUE_TYPES: Mapping[str, pa.DataType] = {"number": pa.float64(), "boolean": pa.bool_(), "enum": pa.string()}
"""Type of a column by type of the metric."""
META = "meta"
"""Key of the schema's metadata."""
ROW_GROUP = 65_536
"""Rows of a row group of Parquet: what is kept in memory until it is written."""


def instants(zone: str) -> pa.DataType:
    """Type of a column of times: instants, shown in that time zone, so that both passes of a repeated hour differ."""
    return pa.timestamp("us", zone)


def with_meta(fields: list[pa.Field], meta: Mapping[str, Any]) -> pa.Schema:
    """A schema that tells what the answer is about."""
    return pa.schema(fields, {META: to_json(meta)})


class _Sink:
    """A file of which the beginning is sent while the end is written."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: Any) -> int:
        """Takes bytes; they belong to the writer, so they are copied."""
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Nothing is to be closed."""

    def take(self) -> bytes:
        """What was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


class ArrowBody:
    """The IPC streaming format: a schema, then one message for each batch of rows, then a mark of the end."""

    def __init__(self, schema: pa.Schema) -> None:
        self._sink = _Sink()
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, "w"), schema)

    def begin(self) -> bytes:
        """The schema."""
        return self._sink.take()

    async def add(self, rows: pa.RecordBatch) -> bytes:
        """The rows as a message."""
        self._writer.write_batch(rows)
        return self._sink.take()

    async def end(self) -> bytes:
        """The mark of the end."""
        self._writer.close()
        return self._sink.take()


class ParquetBody:
    """Parquet: row groups, then a footer without which no reader opens the file.

    A row group is large, and written beside the event loop, which Arrow leaves to others meanwhile.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._sink = _Sink()
        self._writer = pq.ParquetWriter(pa.PythonFile(self._sink, "w"), schema, compression="snappy")
        self._waiting: list[pa.RecordBatch] = []
        self._count = 0

    def begin(self) -> bytes:
        """The first bytes of the file."""
        return self._sink.take()

    async def add(self, rows: pa.RecordBatch) -> bytes:
        """A row group, once there are enough rows."""
        self._waiting.append(rows)
        self._count += rows.num_rows
        return await asyncio.to_thread(self._written) if self._count >= ROW_GROUP else b""

    async def end(self) -> bytes:
        """The last row group and the footer."""
        return await asyncio.to_thread(self._ended)

    def _ended(self) -> bytes:
        last = self._written()
        self._writer.close()
        return last + self._sink.take()

    def _written(self) -> bytes:
        if self._count:
            self._writer.write_table(pa.Table.from_batches(self._waiting), row_group_size=self._count)
        self._waiting, self._count = [], 0
        return self._sink.take()


def table_body(form: Format, schema: pa.Schema) -> ArrowBody | ParquetBody:
    """The writer of that form."""
    return ArrowBody(schema) if form is Format.ARROW else ParquetBody(schema)
