"""What a demo says to people and to scripts."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from telemetry.demo.view import JsonView, Status, TerminalView, lag

STATUS = Status(
    elapsed_s=61.4,
    phase="live",
    messages_per_s=201.3,
    published=12_345,
    received=12_345,
    stored=12_340,
    duplicate=0,
    quarantined=5,
    backfill_share=1.0,
    lag_s=0.043,
)


def test_json_view_writes_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    view = JsonView()
    with view.step("anything"):
        view.status(STATUS)
    view.say("a sentence")
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert (said["event"], said["stored"], said["phase"]) == ("status", 12_340, "live")


def test_terminal_view_without_a_terminal_writes_plain_lines_now_and_then() -> None:
    out = io.StringIO()
    view = TerminalView(Console(file=out, width=120, highlight=False))
    view.status(STATUS)
    view.status(STATUS)
    (line,) = out.getvalue().splitlines()
    assert line == "201 messages/s  stored 12,340  quarantined 5  lag 43 ms  0:01:01"


def test_terminal_view_step_shows_what_it_came_to() -> None:
    out = io.StringIO()
    view = TerminalView(Console(file=out, width=120, highlight=False))
    with view.step("Starting") as result:
        result["done"] = "PostgreSQL on port 5555"
    assert "✓ PostgreSQL on port 5555" in out.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(None, "–"), (0.0431, "43 ms"), (2.55, "2.5 s")])
def test_lag_for_people(seconds: float | None, text: str) -> None:
    assert lag(seconds) == text
