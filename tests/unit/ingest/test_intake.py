"""How much waits: what a message holds counts, wherever it is."""

from __future__ import annotations

import pytest

from telemetry.ingest.intake import Intake
from telemetry.ingest.parcel import Kept, pack, unpack
from telemetry.settings import IngestSettings


class Socket:
    """Says whether it is to be read."""

    paused = False

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False


@pytest.mark.asyncio
@pytest.mark.parametrize("message", [Kept("t", b"x" * 64_000), Kept("t" * 64_000, b"x")], ids=["payload", "topic"])
async def test_reading_pauses_where_much_waits_in_payloads_or_topics(message: Kept) -> None:
    settings = IngestSettings(batch_bytes=1 << 20, max_payload_bytes=1 << 20)
    intake = Intake(settings)
    intake.flow = socket = Socket()
    for number in range(4 * (1 << 20) // 64_000 + 1):
        assert not socket.paused
        intake.put(number, [message])
    assert socket.paused
    while socket.paused:
        taken = await intake.take()
    assert sum(arrival.size for arrival in taken) < 2 << 20
    assert [arrival.size for arrival in unpack(pack(taken))] == [arrival.size for arrival in taken]
