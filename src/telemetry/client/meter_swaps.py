"""Meters of a device that were replaced."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from telemetry.client.bodies import DataOnly, body
from telemetry.client.exchange import Answer, Question, Request, one
from telemetry.client.parameters import fields, segment, text


@dataclass(frozen=True, slots=True)
class MeterSwap:
    """A meter that was replaced.

    Attributes:
        metric: the counter.
        time: readings from then on are those of the new meter.
        start_index: what the new meter began with.
        final_index: what the old one ended with; None where that is not known.
    """

    domain: str
    metric: str
    time: datetime
    start_index: float
    final_index: float | None
    declared_at: datetime


def meter_swaps(device_id: str) -> Question[tuple[MeterSwap, ...]]:
    """The meters of a device that were replaced, in order of metric and time.

    Raises:
        NotFound: there is no such device.
    """
    return one(Request(_path(device_id)), lambda answer: body(DataOnly[tuple[MeterSwap, ...]], answer).data)


def meter_swap(device_id: str, counter: str, time: datetime | str) -> Question[MeterSwap]:
    """The swap of a counter at an instant.

    Args:
        time: with a time zone, or text: RFC 3339 with an offset.

    Raises:
        NotFound: there is none.
    """
    return one(Request(_path(device_id, counter, time)), _swap)


def put_meter_swap(
    device_id: str,
    counter: str,
    time: datetime | str,
    *,
    start_index: float,
    final_index: float | None = None,
) -> Question[MeterSwap]:
    """Declares that a meter was replaced: `increase` and `rate` are exact over it from then on. A swap of the same
    counter and instant is replaced.

    Args:
        counter: a counter of the domain that the device is at home in.
        time: when; with a time zone, or text: RFC 3339 with an offset.
        start_index: what the new meter began with, in the unit of the metric.
        final_index: what the old one ended with; without it, the old one counts up to its last reading.
    """
    indexes = fields(start_index=start_index, final_index=final_index)
    return one(Request(_path(device_id, counter, time), method="PUT", body=indexes), _swap)


def delete_meter_swap(device_id: str, counter: str, time: datetime | str) -> Question[None]:
    """Withdraws a swap: the counter is judged by its readings alone again.

    Raises:
        NotFound: there is none.
    """
    return one(Request(_path(device_id, counter, time), method="DELETE"), lambda _: None)


def _swap(answer: Answer) -> MeterSwap:
    return body(DataOnly[MeterSwap], answer).data


def _path(device_id: str, counter: str | None = None, time: datetime | str = "") -> str:
    path = f"v1/devices/{segment('device_id', device_id)}/meter-swaps"
    if counter is None:
        return path
    return f"{path}/{segment('counter', counter)}/{segment('time', text('time', time))}"
