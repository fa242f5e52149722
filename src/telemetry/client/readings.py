"""Raw rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import TypeAdapter, ValidationError

from telemetry.client.errors import UnexpectedAnswer
from telemetry.client.exchange import Answer, Flow, Question, Request, fetch
from telemetry.client.frames import META, Frame, arrow_table, as_number, cells, library
from telemetry.client.pages import Paged, PageMeta, next_request
from telemetry.client.parameters import Instant, Names, Order, parameters, segment

if TYPE_CHECKING:
    import pyarrow as pa

Measured: TypeAlias = float | bool | str | None

_META = TypeAdapter(PageMeta)
_OTHERS = ("time", "received_at", "device_id", "attributes")
"""Columns that are no metrics."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One row as it was stored.

    Attributes:
        time: when it was measured.
        received_at: when the service took it.
        values: by metric; None is what the reading did not have.
        attributes: fields that the domain does not know.
    """

    time: datetime
    received_at: datetime
    device_id: str
    values: Mapping[str, Measured]
    attributes: Mapping[str, Any] | None

    def __getitem__(self, metric: str) -> Measured:
        return self.values[metric]

    def number(self, metric: str) -> float | None:
        """A value that is a number.

        Raises:
            TypeError: it is a state.
        """
        return as_number(self.values[metric], metric)


@dataclass(frozen=True, eq=False)
class ReadingsPage(Frame):
    """Some readings, in order of time.

    Attributes:
        table: the rows as they came.
    """

    meta: PageMeta
    table: pa.Table = field(repr=False)

    @cached_property
    def rows(self) -> tuple[Reading, ...]:
        """The readings."""
        return tuple(_readings(self.table))


@dataclass(frozen=True)
class ReadingsQuestion(Paged[Reading]):
    """A question about readings; `Client.download` writes the answer into a file."""

    read: Callable[[Answer], ReadingsPage]

    def whole(self) -> Question[Frame]:
        """All pages as one table."""

        def flow() -> Flow[Frame]:
            tables = []
            request: Request | None = self.first
            while request is not None:
                page = self.read((yield from fetch(request)))
                tables.append(page.table.replace_schema_metadata(without_next(page.table.schema)))
                request = next_request(self.first, page.meta)
            return ReadingsPage(page.meta, library("pyarrow").concat_tables(tables))

        return Question(flow)


def readings(
    domain: str,
    *,
    metric: Names | None = None,
    start: Instant = "-1h",
    end: Instant = "now",
    device: Names | None = None,
    zone: Names | None = None,
    order: Order = "asc",
    tz: str | None = None,
    page_size: int | None = None,
) -> ReadingsQuestion:
    """Rows as they were stored, in order of time, fetched page by page.

    Args:
        domain: as `domains` lists them.
        metric: only these, and rows that have at least one of them.
        start, end: the half-open range: datetimes with a time zone, or text (`-1h`, `now`, RFC 3339 with an offset).
        device, zone: only these.
        order: of time.
        tz: IANA time zone in which times are shown; default is the city's.
        page_size: rows that are fetched at a time; default and most are the service's.
    """
    asked = parameters(
        metric=metric,
        start=start,
        end=end,
        device=device,
        zone=zone,
        order=order,
        tz=tz,
        limit=page_size,
        format="arrow",
    )
    return ReadingsQuestion(Request(f"v1/{segment('domain', domain)}/readings", asked), _read)


def without_next(schema: pa.Schema) -> dict[bytes, bytes]:
    """The metadata of a table that is followed by no other one."""
    meta = json.loads(schema.metadata[META])
    return {META: json.dumps({**meta, "next": None}).encode()}


def _read(answer: Answer) -> ReadingsPage:
    table = arrow_table(answer)
    try:
        return ReadingsPage(_META.validate_json(table.schema.metadata[META]), table)
    except ValidationError as error:
        raise UnexpectedAnswer(f"the answer is none that this client understands: {error}") from error


def _readings(table: pa.Table) -> Iterator[Reading]:
    metrics = [name for name in table.column_names if name not in _OTHERS]
    fixed = zip(*(cells(table, name) for name in _OTHERS), strict=True)
    measured = zip(*(cells(table, name) for name in metrics), strict=True)
    for (time, received_at, device_id, attributes), values in zip(fixed, measured, strict=True):
        known = dict(zip(metrics, values, strict=True))
        yield Reading(time, received_at, device_id, known, None if attributes is None else json.loads(attributes))
