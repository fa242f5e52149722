"""Answers into files, in constant memory. A file is there once it is complete; until then it has another name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, get_args
from urllib.parse import unquote
from uuid import uuid4

from telemetry.client.bodies import Envelope, body
from telemetry.client.errors import InvalidArgument
from telemetry.client.exchange import Answer, Flow, Question, Request, fetch
from telemetry.client.frames import library
from telemetry.client.pages import PageMeta, next_request, with_range
from telemetry.client.parameters import Format
from telemetry.client.readings import ReadingsQuestion, without_next
from telemetry.client.series import SeriesQuestion

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS: tuple[Format, ...] = get_args(Format)
_SUFFIXES: dict[str, Format] = {
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".csv": "csv",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".parquet": "parquet",
}
_ROW_GROUP = 65_536
"""Rows that are written at a time into Parquet."""


@dataclass(frozen=True, slots=True)
class Download:
    """A file that is complete.

    Attributes:
        size: in bytes.
        as_of: instant of the answer, of a series.
    """

    path: Path
    size: int
    as_of: datetime | None


def download(
    question: SeriesQuestion | ReadingsQuestion,
    path: str | os.PathLike[str],
    format: Format | None = None,  # noqa: A002 - named as the parameter of the service
) -> Question[Download]:
    """Writes an answer into a file, without having all of it in memory. What is there under that name is replaced, once
    the answer is complete; an answer that breaks off leaves nothing. Downloads to one path at a time do not mix: what
    ends last stays.

    Args:
        question: `series(…)` or `readings(…)`. Readings are all pages, one after the other.
        path: where to.
        format: `json` (of series only), `ndjson`, `csv`, `excel`, `arrow` (stream) or `parquet`; default is what the
            ending of the name says.

    Raises:
        OSError: the file cannot be written.
    """
    if not isinstance(question, (SeriesQuestion, ReadingsQuestion)):
        raise InvalidArgument(
            f"question: a {type(question).__name__} is none that has a file for an answer; "
            "allowed: series(…) and readings(…) of telemetry.client, which are not asked yet"
        )
    target = Path(path)
    if not target.name:
        raise InvalidArgument(f"path: {str(path)!r} names no file; allowed: 'power.parquet'")
    form = _format(target, format)
    if isinstance(question, SeriesQuestion):
        return Question(lambda: _series(question.request.having(format=form), target))
    if form == "json":
        raise InvalidArgument("format: readings come in pages, which make no JSON together; allowed: ndjson and others")
    is_table = form in ("arrow", "parquet")
    return Question(lambda: _tables(question, target, form) if is_table else _texts(question, target, form))


def _format(path: Path, given: Format | None) -> Format:
    found = given or _SUFFIXES.get(path.suffix.lower())
    if found not in FORMATS:
        what = f"the ending of {path.name!r}" if given is None else repr(given)
        raise InvalidArgument(f"format: {what} names no format; allowed: {', '.join(FORMATS)}")
    return found


def _series(request: Request, path: Path) -> Flow[Download]:
    with _complete(path) as file:
        answer = yield from fetch(request, file)
        size = file.tell()
    as_of = answer.headers.get("telemetry-as-of")
    return Download(path, size, datetime.fromisoformat(as_of) if as_of else None)


def _texts(question: ReadingsQuestion, path: Path, form: Format) -> Flow[Download]:
    """Pages of text do not tell their range, so that is asked for first: `now` is another instant for every page."""
    probe = yield from fetch(question.first.having(format="json", limit="1"))
    first = with_range(question.first, body(Envelope[PageMeta, Any], probe).meta).having(format=form)
    request: Request | None = first
    with _complete(path) as file:
        while request is not None:
            answer = yield from fetch(request)
            is_continued = form != "ndjson" and request is not first
            file.write(answer.content.partition(b"\r\n")[2] if is_continued else answer.content)
            cursor = _next(answer)
            request = None if cursor is None else first.having(cursor=cursor)
        size = file.tell()
    return Download(path, size, None)


def _next(answer: Answer) -> str | None:
    """The cursor in the header `Link`."""
    found = re.search(r'[?&]cursor=([^&>]+)[^>]*>; *rel="?next', answer.headers.get("link", ""))
    return None if found is None else unquote(found[1])


def _tables(question: ReadingsQuestion, path: Path, form: Format) -> Flow[Download]:
    request: Request | None = question.first
    with _complete(path) as file:
        with closing(_Writer(file, form)) as writer:
            while request is not None:
                page = question.read((yield from fetch(request)))
                writer.add(page.table)
                request = next_request(question.first, page.meta)
            writer.finish()
        size = file.tell()
    return Download(path, size, None)


class _Writer:
    """Writes tables one behind the other, in parts of a sensible size."""

    def __init__(self, file: IO[bytes], form: Format) -> None:
        self._file, self._form = file, form
        self._waiting: list[pa.Table] = []
        self._writer: Any = None

    def add(self, table: pa.Table) -> None:
        """Takes rows."""
        if self._writer is None:
            schema = table.schema.with_metadata(without_next(table.schema))
            self._writer = self._open(schema)
        self._waiting.append(table)
        if sum(each.num_rows for each in self._waiting) >= _ROW_GROUP:
            self.finish()

    def finish(self) -> None:
        """Writes what waits."""
        if self._waiting:
            self._writer.write_table(library("pyarrow").concat_tables(self._waiting).combine_chunks())
        self._waiting = []

    def close(self) -> None:
        """Writes the end."""
        if self._writer is not None:
            self._writer.close()

    def _open(self, schema: pa.Schema) -> Any:
        if self._form == "parquet":
            return library("pyarrow.parquet").ParquetWriter(self._file, schema)
        return library("pyarrow.ipc").new_stream(self._file, schema)


@contextmanager
def _complete(path: Path) -> Iterator[IO[bytes]]:
    """A file beside that of the name, which takes its place in the end.

    Each download has its own, for two to one path would write into the same; and unlike that of `mkstemp` it has the
    permissions of any new file.
    """
    part = path.with_name(f".{uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
