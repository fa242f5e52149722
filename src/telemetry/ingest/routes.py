"""Where a topic leads: `{root}/{domain}/{device_id}`."""

from __future__ import annotations

import re

from telemetry.domains import Domain, Registry
from telemetry.errors import Reason, Rejected
from telemetry.formats.native import NativeFormat
from telemetry.store.layout import Layout, Shape

UNKNOWN = "unknown"
"""The ledger's domain of messages whose topic names none."""

_DEVICE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_AT_MOST = 1_000_000
_LONGEST_REMEMBERED = 400
"""Characters of a topic. Of a longer one nobody needs the route again: without this bound a million of them, made up by
somebody who means harm, would be gigabytes. The same holds for topics that lead nowhere."""
_AT_MOST_SHAPES = 10_000


class Shapes(dict[tuple[str, ...], Shape | None]):
    """By the fields of a reading its shape; None where one of them is no metric, or there is none at all.

    Only shapes are remembered: names that are no metrics can be as long as a payload.
    """

    def __init__(self, domain: Domain, layout: Layout) -> None:
        super().__init__()
        self._metrics = domain.metrics.keys()
        self._layout = layout

    def __missing__(self, fields: tuple[str, ...]) -> Shape | None:
        if not fields or not self._metrics >= set(fields):
            return None
        if len(self) >= _AT_MOST_SHAPES:
            self.clear()
        shape = self[fields] = self._layout.shape(fields)
        return shape


class Sort:
    """What ingest needs of a domain."""

    __slots__ = ("format", "layout", "name", "shapes")

    def __init__(self, domain: Domain) -> None:
        self.name = domain.name
        self.format = NativeFormat(domain)
        self.layout = Layout.of(domain)
        self.shapes = Shapes(domain, self.layout)


class Route:
    """Where the messages of a topic go.

    Attributes:
        sort: the domain; None where the topic names none.
        domain: its name, as the ledger has it.
        device_key: None until the device is known to be registered.
        fault: why no message of this topic can be a reading.
        left: another session has the same messages and stores them; this one only acknowledges them. `sort` is None.
    """

    __slots__ = ("device_id", "device_key", "domain", "fault", "left", "sort")

    def __init__(self, sort: Sort | None, device_id: str | None, fault: Rejected | None = None) -> None:
        self.sort = sort
        self.domain = UNKNOWN if sort is None else sort.name
        self.device_id = device_id
        self.device_key: int | None = None
        self.fault = fault
        self.left = False


class Routes(dict[str, Route]):
    """The routes of the topics seen so far; a new topic is understood when it is first asked for.

    Args:
        strays: everything that names a domain is left, because a session of that domain has it.

    Attributes:
        cleared: how often all of them were forgotten.
    """

    def __init__(self, root: str, registry: Registry, strays: bool = False) -> None:
        super().__init__()
        self.cleared = 0
        self._left: Route | None = None
        if strays:
            self._left = Route(None, None)
            self._left.left = True
        self._root = f"{root}/"
        self._sorts = {name: Sort(registry[name]) for name in registry}

    def clear(self) -> None:
        """Forgets all of them, and the keys of their devices."""
        super().clear()
        self.cleared += 1

    def __missing__(self, topic: str) -> Route:
        route = self._understand(topic)
        if route.fault is None and len(topic) <= _LONGEST_REMEMBERED:
            if len(self) >= _AT_MOST:
                # Topics that somebody makes up without end must not fill the memory; real ones are back at once.
                self.clear()
            self[topic] = route
        return route

    def _understand(self, topic: str) -> Route:
        parts = topic.removeprefix(self._root).split("/") if topic.startswith(self._root) else []
        sort = self._sorts.get(parts[0]) if parts else None
        if sort is not None and self._left is not None:
            return self._left
        if sort is None or len(parts) != 2:
            allowed = ", ".join(self._sorts)
            detail = f"a topic is {self._root}{{domain}}/{{device_id}} with one of the domains {allowed}"
            return Route(sort, None, Rejected(Reason.UNKNOWN_TOPIC, detail))
        if not _DEVICE_ID.fullmatch(parts[1]):
            detail = "a device id has 1 to 128 characters of A-Z a-z 0-9 . _ : -"
            return Route(sort, None, Rejected(Reason.UNKNOWN_TOPIC, detail))
        return Route(sort, parts[1])
