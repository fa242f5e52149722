"""The last values of devices as JSON text, column by column: a loop that makes an object of each takes far longer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from pydantic_core import to_json

from telemetry.api.blocks import Texts, numbers
from telemetry.api.times import Times, seconds_between
from telemetry.domains import Metric
from telemetry.query.instants import microseconds
from telemetry.query.latest import NEVER, Block, silence_us


class LatestRows:
    """Writes the rows of an answer, which is given at `now`."""

    def __init__(self, metrics: Sequence[Metric], now: datetime, time_zone: ZoneInfo) -> None:
        self._heads = [f'"{metric.name}":{{"value":' for metric in metrics]
        self._has_numbers = [metric.value_type == "number" for metric in metrics]
        self._now = microseconds(now)
        self._times, self._texts, self._allowed = Times(time_zone), Texts(), _Allowed()

    def text(self, block: Block) -> str:
        """The rows of some devices, with commas in between."""
        times, ages = self._instants(block.times), self._ages(block.times)
        rows = zip(
            block.device_ids,
            map(self._texts.__getitem__, block.names),
            map(self._texts.__getitem__, block.zones),
            numbers(block.latitudes),
            numbers(block.longitudes),
            numbers(block.intervals_s),
            self._are_online(block),
            times,
            self._instants(block.received),
            ages,
            self._values(block, times, ages),
            strict=True,
        )
        # No id has a character that JSON would escape.
        return ",".join(
            f'{{"device_id":"{device}","name":{name},"zone":{zone},"latitude":{latitude},"longitude":{longitude},'
            f'"interval_s":{interval},"status":"{"online" if is_online else "silent"}","time":{time},'
            f'"received_at":{received},"age_s":{age},"values":{{{values}}}}}'
            for device, name, zone, latitude, longitude, interval, is_online, time, received, age, values in rows
        )

    def _instants(self, column: Sequence[int]) -> list[str]:
        texts = iter(self._times.texts(us for us in column if us != NEVER))
        return [f'"{next(texts)}"' if us != NEVER else "null" for us in column]

    def _ages(self, column: Sequence[int]) -> list[str]:
        """Seconds; 0 for a device whose clock is ahead."""
        ages = seconds_between(column, self._now)
        return numbers([None if us == NEVER else age for us, age in zip(column, ages, strict=True)])

    def _are_online(self, block: Block) -> list[bool]:
        """Whether each is heard from as often as it should be."""
        allowed = map(self._allowed.__getitem__, block.intervals_s)
        return [self._now - us <= most for us, most in zip(block.times, allowed, strict=True)]

    def _values(self, block: Block, times: Sequence[str], ages: Sequence[str]) -> list[str]:
        ends = [f',"time":{time},"age_s":{age}}}' for time, age in zip(times, ages, strict=True)]
        columns = [self._column(position, column, ends) for position, column in enumerate(block.values)]
        values = (
            columns[0] if len(columns) == 1 else [",".join(filter(None, row)) for row in zip(*columns, strict=True)]
        )
        for place, found in block.earlier.items():
            earlier = (self._earlier(*each) for each in found)
            values[place] = ",".join(filter(None, [values[place], *earlier]))
        return values

    def _column(self, position: int, column: Sequence[Any], ends: Sequence[str]) -> list[str]:
        """Values of a metric with what is told of each; empty where there is none."""
        head = self._heads[position]
        texts = numbers(column) if self._has_numbers[position] else map(self._texts.__getitem__, column)
        return [
            "" if value is None else f"{head}{text}{end}"
            for value, text, end in zip(column, texts, ends, strict=True)
        ]  # fmt: skip

    def _earlier(self, position: int, us: int, value: Any) -> str:
        (time,), (age,) = self._times.texts([us]), self._ages([us])
        return f'{self._heads[position]}{to_json(value).decode()},"time":"{time}","age_s":{age}}}'


class _Allowed(dict[float | None, int]):
    """How long devices of an interval may be unheard, in µs."""

    def __missing__(self, interval_s: float | None) -> int:
        self[interval_s] = allowed = silence_us(interval_s)
        return allowed
