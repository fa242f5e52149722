"""A list of devices as CSV: `id,domain,name,zone,latitude,longitude,interval`, in any order, the first two required."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import asyncpg

from telemetry.errors import ConfigurationError
from telemetry.settings import parse_duration
from telemetry.store.devices import Device, upsert

COLUMNS = ("id", "domain", "name", "zone", "latitude", "longitude", "interval")
REQUIRED = ("id", "domain")

_AT_ONCE = 1_000
_DEVICE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is no device; the good ones are kept.

    Attributes:
        line: number of the line in the file, from 1.
    """

    line: int
    fault: str


@dataclass(slots=True)
class Imported:
    """What became of a list.

    Attributes:
        added, known: devices that are new, and those that were there before.
        refused: rows that are no device.
    """

    added: int = 0
    known: int = 0
    refused: list[BadRow] = field(default_factory=list)


async def import_devices(
    database: asyncpg.Connection, path: Path, domains: Collection[str], read: Callable[[int], object]
) -> Imported:
    """Registers the devices of a file, some at a time; errors as by `read_devices`.

    What was registered before an error stays, and is there when the file is imported again.

    Args:
        domains: in which a device may be at home.
        read: is told how many bytes have been read so far.
    """
    done = Imported()
    waiting: list[Device] = []

    async def register() -> None:
        added, known = await upsert(database, waiting)
        done.added, done.known = done.added + added, done.known + known
        waiting.clear()

    for size, row in read_devices(path, domains):
        read(size)
        done.refused.append(row) if isinstance(row, BadRow) else waiting.append(row)
        if len(waiting) >= _AT_ONCE:
            await register()
    await register()
    return done


def read_devices(path: Path, domains: Collection[str]) -> Iterator[tuple[int, Device | BadRow]]:
    """Every row of the file, with the number of bytes that were read up to it, for a progress bar.

    Raises:
        ConfigurationError: the file cannot be read, or its header names other columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            size = 0

            def lines() -> Iterator[str]:
                nonlocal size
                for line in file:
                    size += len(line.encode())
                    yield line

            reader = csv.DictReader(lines(), dialect=_dialect(file.readline()), fieldnames=None)
            file.seek(0)
            _require_columns(path, reader.fieldnames or ())
            seen: dict[str, int] = {}
            for row in reader:
                yield size, _device(row, reader.line_num, domains, seen)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{path} cannot be read as CSV in UTF-8: {error}") from error


class _Semicolons(csv.excel):
    """What spreadsheets write where the comma is the decimal sign."""

    delimiter = ";"


def _dialect(header: str) -> type[csv.Dialect]:
    return _Semicolons if header.count(";") > header.count(",") else csv.excel


def _require_columns(path: Path, names: Collection[str]) -> None:
    missing = [name for name in REQUIRED if name not in names]
    unknown = [name for name in names if name not in COLUMNS]
    if missing or unknown:
        faults = [f"there is no column {name}" for name in missing]
        faults += [f"the column {name} is unknown" for name in unknown]
        raise ConfigurationError(f"{path}: {', '.join(faults)}; the columns are {', '.join(COLUMNS)}")


def _device(row: dict[str, str | None], line: int, domains: Collection[str], seen: dict[str, int]) -> Device | BadRow:
    try:
        if None in row:
            raise ValueError("there are more values than columns")
        values = {name: (value or "").strip() for name, value in row.items()}
        device_id = _id(values["id"])
        if device_id in seen:
            raise ValueError(f"id {device_id!r} was in line {seen[device_id]} already")
        if values["domain"] not in domains:
            raise ValueError(f"domain {values['domain']!r} is none of {', '.join(sorted(domains))}")
        device = Device(
            device_id,
            values["domain"],
            values.get("name") or None,
            values.get("zone") or None,
            _degrees("latitude", values, 90),
            _degrees("longitude", values, 180),
            _seconds(values.get("interval", "")),
        )
    except ValueError as error:
        return BadRow(line, str(error))
    seen[device_id] = line
    return device


def _id(text: str) -> str:
    if not _DEVICE_ID.fullmatch(text):
        raise ValueError(f"id {text!r} must have 1 to 128 characters of A-Z a-z 0-9 . _ : -")
    return text


def _degrees(name: str, values: dict[str, str], most: float) -> float | None:
    text = values.get(name, "")
    if not text:
        return None
    try:
        degrees = float(text.replace(",", "."))
    except ValueError:
        raise ValueError(f"{name} {text!r} is no number of degrees") from None
    if not -most <= degrees <= most:
        raise ValueError(f"{name} {text} is not between -{most:g} and {most:g}")
    return degrees


def _seconds(text: str) -> float | None:
    """The interval: seconds, or a duration such as 15m."""
    if not text:
        return None
    try:
        interval = timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        try:
            interval = parse_duration(text)
        except (ValueError, OverflowError):
            raise ValueError(f"interval {text!r} is neither seconds nor a duration such as 15m") from None
    if interval <= timedelta(0):
        raise ValueError(f"interval {text} must be more than 0 seconds")
    return interval.total_seconds()
