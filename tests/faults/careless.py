"""Ingest that acknowledges on receipt, as many a system does: the control that the accounts must show to lose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from telemetry.cli import main
from telemetry.ingest import assembly
from telemetry.mqtt.connection import Deliver
from telemetry.mqtt.oversize import Message
from telemetry.mqtt.subscriber import Subscriber
from telemetry.settings import MqttSettings


class Careless(Subscriber):
    """Settles what it hands on, before anybody has stored it."""

    def __init__(self, settings: MqttSettings, filters: Sequence[str], deliver: Deliver, **options: Any) -> None:
        def take(first: int, messages: list[Message]) -> None:
            deliver(first, messages)
            self.settle(first, first + len(messages))

        super().__init__(settings, filters, take, **options)


if __name__ == "__main__":
    with patch.object(assembly, "Subscriber", Careless):
        main()
