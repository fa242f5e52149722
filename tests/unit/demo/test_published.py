"""The simulator's log lines become counters."""

from __future__ import annotations

import json
from pathlib import Path

from telemetry.demo.published import PublishedLog


def line(**fields: object) -> str:
    return json.dumps({"level": "info", **fields}) + "\n"


PROGRESS = line(
    event="simulate_progress", phase="backfill", total=400, messages=2, per_domain={"waste": 192}, repeated=0
)


def test_published_log_follows_progress(tmp_path: Path) -> None:
    log = tmp_path / "simulate.log"
    published = PublishedLog(log)
    published.refresh()
    assert (published.phase, published.readings) == ("starting", 0)
    log.write_text(PROGRESS)
    published.refresh()
    assert (published.phase, published.readings, published.messages) == ("backfill", 192, 2)
    assert published.backfill_total == 400


def test_published_log_waits_for_an_unfinished_line(tmp_path: Path) -> None:
    log = tmp_path / "simulate.log"
    published = PublishedLog(log)
    done = line(event="simulate_done", messages=3, per_domain={"waste": 193}, repeated=1)
    log.write_text(PROGRESS + done[:20])
    published.refresh()
    assert published.phase == "backfill"
    log.write_text(PROGRESS + done)
    published.refresh()
    assert (published.phase, published.readings, published.repeated) == ("done", 193, 1)


def test_published_log_ignores_what_is_not_json(tmp_path: Path) -> None:
    log = tmp_path / "simulate.log"
    log.write_text("Traceback (most recent call last):\n[]\n" + PROGRESS)
    published = PublishedLog(log)
    published.refresh()
    assert published.readings == 192
