"""The cap on what a device may leave in quarantine."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from telemetry.errors import Reason
from telemetry.store import allowance as module
from telemetry.store.allowance import Allowance
from telemetry.store.batch import Quarantined
from telemetry.store.layout import HOUR_US

NOW = 480_000 * HOUR_US


def refused(device_id: str | None, count: int, domain: str = "waste") -> list[Quarantined]:
    """So many refused readings of a device, told apart by their position."""
    return [Quarantined(NOW, domain, device_id, Reason.SCHEMA, "", "t", b"?", number) for number in range(count)]


def settle(allowance: Allowance, readings: list[Quarantined], received_us: int = NOW) -> int:
    """Settles a batch; returns how many readings were kept."""
    choice = allowance.choose(readings, received_us)
    allowance.charge(choice)
    return len(choice.kept)


def test_allowance_keeps_the_first_of_each_device() -> None:
    allowance = Allowance(3)
    choice = allowance.choose([*refused("a", 5), *refused("b", 2)], NOW)
    assert [(each.device_id, each.position) for each in choice.kept] == [
        ("a", 0),
        ("a", 1),
        ("a", 2),
        ("b", 0),
        ("b", 1),
    ]


def test_allowance_holds_over_batches_and_begins_anew_with_the_hour() -> None:
    allowance = Allowance(3)
    assert [settle(allowance, refused("a", 2)) for _ in range(3)] == [2, 1, 0]
    assert settle(allowance, refused("a", 2), NOW + HOUR_US) == 2


def test_allowance_of_a_batch_that_is_repeated_is_charged_once() -> None:
    allowance = Allowance(3)
    for _ in range(5):
        assert len(allowance.choose(refused("a", 2), NOW).kept) == 2
    assert settle(allowance, refused("a", 2)) == 2
    assert settle(allowance, refused("a", 2)) == 1


def test_messages_without_a_device_share_the_allowance_of_their_domain() -> None:
    allowance = Allowance(3)
    assert settle(allowance, refused(None, 2, "unknown")) == 2
    assert settle(allowance, refused(None, 2, "unknown")) == 1
    assert settle(allowance, refused(None, 2, "waste")) == 2


def test_devices_without_end_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ACCOUNTS_AT_MOST", 10)
    allowance = Allowance(3)
    kept = [settle(allowance, refused(f"made-up-{number}", 1)) for number in range(50)]
    assert sum(kept) == 10 + 3
    assert len(allowance._spent) == 11
    assert settle(allowance, refused("made-up-0", 3)) == 2


def test_what_is_left_out_is_counted_and_told_once_in_an_hour() -> None:
    told: list[tuple[str, int]] = []
    allowance = Allowance(3, lambda domain, count: told.append((domain, count)))
    with capture_logs() as logs:
        for _ in range(4):
            settle(allowance, refused("a", 2))
        assert len(logs) == 1
        for _ in range(2):
            settle(allowance, refused("a", 2), NOW + HOUR_US)
    assert told == [("waste", 1), ("waste", 2), ("waste", 2), ("waste", 1)]
    assert [(log["event"], log["device_id"]) for log in logs] == [("quarantine_full", "a")] * 2
