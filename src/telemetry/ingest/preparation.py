"""Messages become a batch of readings: the one loop that runs for every message.

It takes the straight way for what nearly every message is, one good object of a known device, and leaves it at the
first surprise. Devices are looked up or registered once for each batch, and only for readings that are good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

from telemetry.errors import Reason, Rejected
from telemetry.formats.native import Decoded, attributes
from telemetry.formats.quick import microseconds
from telemetry.ingest.devices import Devices
from telemetry.ingest.intake import Arrival, Message
from telemetry.ingest.parcel import Kept
from telemetry.ingest.routes import Route, Routes, Sort
from telemetry.settings import IngestSettings, format_duration
from telemetry.store.batch import Batch, Part, Readings, Source, quarantined
from telemetry.store.keys import unregistered
from telemetry.store.layout import MICROSECOND, SECOND_US, Entry

_PAUSE_EVERY: Final = 500
"""Elements of an array after which the event loop has its turn."""

Adder: TypeAlias = Callable[[Entry], None]


class Good(NamedTuple):
    """A reading that was decoded, and the message it came in."""

    route: Route
    source: Source
    said: Decoded
    time_us: int
    received_us: int


class Preparation:
    """Makes batches of readings out of messages."""

    def __init__(self, settings: IngestSettings, routes: Routes, devices: Devices) -> None:
        self._settings = settings
        self._routes = routes
        self._devices = devices
        self._late_us = settings.max_lateness // MICROSECOND
        self._ahead_us = settings.max_future // MICROSECOND
        self._last_receipt_us = 0
        self._cleared = routes.cleared

    async def batch(self, arrivals: Sequence[Arrival]) -> Batch:
        """The batch of some arrivals, all received within the same hour; waits for the database at new devices."""
        last = arrivals[-1]
        batch = Batch(arrivals[0].first, last.first + len(last.messages), arrivals[0].received_us)
        waiting: list[Good] = []
        if self._cleared != self._routes.cleared:
            # Where another server has taken over, the connection for look-ups may still lead to the one before.
            self._cleared = self._routes.cleared
            self._devices.cut()
        for arrival in arrivals:
            for _ in self._take(batch, arrival, waiting):
                # Long arrays must not keep the broker waiting for our pings, nor an operator for our end.
                await asyncio.sleep(0)
        if waiting:
            await self._devices.resolve([good.route for good in waiting])
            for good in waiting:
                self._admit(batch, good)
        return batch

    def _take(self, batch: Batch, arrival: Arrival, waiting: list[Good]) -> Iterator[None]:
        """Takes what arrived; yields now and then where that takes long."""
        received, routes, adders = batch.received, self._routes, dict[Sort, Adder]()
        received_us = arrival.received_us
        earliest, latest = received_us - self._late_us, received_us + self._ahead_us
        largest = self._settings.max_payload_bytes
        for message in arrival.messages:
            route = routes[message.topic]
            sort, payload = route.sort, message.payload
            if sort is None or route.fault is not None or len(payload) > largest:
                self._refuse_message(batch, route, message, received_us)
                continue
            try:
                fields = sort.format.quick(payload)
                stamp = fields.pop("time", None)
                time_us = self._receipt(received_us) if stamp is None else microseconds(stamp)
            except ValueError:
                yield from self._take_each(batch, route, message, received_us, waiting)
                continue
            received[sort.name] += 1
            key, shape = route.device_key, sort.shapes[tuple(fields)]
            if shape is None or key is None or not earliest <= time_us <= latest:
                self._take_unusual(batch, route, message, {"time": stamp, **fields}, time_us, received_us, waiting)
                continue
            if (add := adders.get(sort)) is None:
                add = adders[sort] = _readings(batch, sort).add
            add((time_us, received_us, key, shape, message, *fields.values()))

    def _take_unusual(
        self,
        batch: Batch,
        route: Route,
        message: Message,
        fields: dict[str, Any],
        time_us: int,
        received_us: int,
        waiting: list[Good],
    ) -> None:
        """A good object of an unknown device, with unknown fields, without any metric, or of an odd time."""
        assert route.sort is not None
        try:
            said = route.sort.format.decoded(fields)
        except Rejected as fault:
            self._refuse(batch, route, message, received_us, fault)
        else:
            self._examine(batch, Good(route, message, said, time_us, received_us), waiting)

    def _take_each(
        self, batch: Batch, route: Route, message: Message, received_us: int, waiting: list[Good]
    ) -> Iterator[None]:
        """The readings of a payload that is not one good object."""
        assert route.sort is not None
        for number, element in enumerate(route.sort.format.each(message.payload, self._settings.max_array_elements), 1):
            if number % _PAUSE_EVERY == 0:
                yield
            batch.received[route.domain] += 1
            source: Source = message
            if element.position is not None:
                source = Part(message.topic, element.raw, element.position)
            said = element.reading
            if isinstance(said, Rejected):
                self._refuse(batch, route, source, received_us, said)
                continue
            time_us = self._receipt(received_us) if said.time is None else microseconds(said.time)
            self._examine(batch, Good(route, source, said, time_us, received_us), waiting)

    def _examine(self, batch: Batch, good: Good, waiting: list[Good]) -> None:
        """Admits a reading that is unusual but right, and refuses one that is wrong."""
        try:
            self._check(good)
            attributes(good.said.extra)  # a device is registered for good readings only
        except Rejected as fault:
            self._refuse(batch, good.route, good.source, good.received_us, fault)
            if fault.reason in (Reason.CLOCK_FUTURE, Reason.CLOCK_PAST):
                device = good.route.device_key or good.route.device_id or ""
                batch.wrong_clocks.append((device, good.time_us, good.received_us))
            return
        if good.route.device_key is None:
            waiting.append(good)
        else:
            self._admit(batch, good)

    def _check(self, good: Good) -> None:
        route, said = good.route, good.said
        if said.device_id is not None and said.device_id != route.device_id:
            raise Rejected(
                Reason.DEVICE_MISMATCH,
                f"device_id is {said.device_id[:128]!r}, but the topic names {route.device_id!r}; "
                "leave it out or make it equal",
            )
        if good.time_us > good.received_us + self._ahead_us:
            raise Rejected(
                Reason.CLOCK_FUTURE,
                f"time is {_shown(said)}, more than ingest.max_future = "
                f"{format_duration(self._settings.max_future)} ahead of our clock",
            )
        if good.time_us < good.received_us - self._late_us:
            raise Rejected(
                Reason.CLOCK_PAST,
                f"time is {_shown(said)}, longer ago than ingest.max_lateness = "
                f"{format_duration(self._settings.max_lateness)}",
            )

    def _admit(self, batch: Batch, good: Good) -> None:
        """Adds a reading that was checked; its device may still be unknown."""
        route, said = good.route, good.said
        assert route.sort is not None
        if route.device_key is None:
            fault = Rejected(Reason.UNKNOWN_DEVICE, unregistered(route.device_id))
            self._refuse(batch, route, good.source, good.received_us, fault)
            return
        filled = said.metrics | ({"attributes": attributes(said.extra)} if said.extra else {})
        shape = route.sort.layout.shape(tuple(filled))
        head = (good.time_us, good.received_us, route.device_key, shape, good.source)
        _readings(batch, route.sort).add((*head, *filled.values()))

    def _refuse_message(self, batch: Batch, route: Route, message: Message, received_us: int) -> None:
        """Refuses or leaves a message without a look at its payload."""
        if route.left:
            batch.left += 1
            return
        batch.received[route.domain] += 1
        fault = route.fault or Rejected(
            Reason.OVERSIZE,
            f"the payload has {_size(message)} bytes; ingest.max_payload_bytes allows "
            f"{self._settings.max_payload_bytes:,}",
        )
        self._refuse(batch, route, message, received_us, fault)

    def _refuse(self, batch: Batch, route: Route, source: Source, received_us: int, fault: Rejected) -> None:
        account = route.domain, route.device_id
        if batch.refused_of[account] >= self._settings.quarantine_per_device:
            # An array of a hundred thousand bad elements must not fill the memory with what nobody keeps.
            batch.not_kept[route.domain, route.device_id, fault.reason] += 1
            return
        batch.refused_of[account] += 1
        batch.refused.append(
            quarantined(source, received_us, route.domain, route.device_id, fault.reason, fault.detail)
        )

    def _receipt(self, received_us: int) -> int:
        """The time of a reading that has none: that of its receipt, no two alike."""
        ahead = self._last_receipt_us - received_us
        # Far ahead it is not a matter of order any more: our clock was put back.
        self._last_receipt_us = self._last_receipt_us + 1 if 0 <= ahead < SECOND_US else received_us
        return self._last_receipt_us


def _readings(batch: Batch, sort: Sort) -> Readings:
    readings = batch.readings.get(sort.name)
    if readings is None:
        readings = batch.readings[sort.name] = Readings(sort.layout)
    return readings


def _size(message: Message) -> str:
    """Bytes of the payload as it was sent, of which the beginning may be all that there is."""
    at_least = "at least " if isinstance(message, Kept) else ""
    return f"{at_least}{getattr(message, 'size', len(message.payload)):,}"


def _shown(said: Decoded) -> str:
    # As it was sent: in UTC it may lie outside of what a datetime can hold.
    if isinstance(said.time, datetime):
        return said.time.isoformat()
    return "that of its receipt" if said.time is None else str(said.time)
