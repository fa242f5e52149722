"""What a demo shows: words and one live line for people, or one JSON object a line for scripts."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final, Protocol

from rich.console import Console
from rich.markup import escape
from rich.status import Status as Spinner

from telemetry.demo.summary import Summary

PLAIN_EVERY_S: Final = 5.0
"""Seconds between two status lines where there is no terminal."""


@dataclass(frozen=True, slots=True)
class Status:
    """One second of a running demo; numbers count from its start.

    Attributes:
        phase: `starting`, `backfill`, `live` or `draining`.
        messages_per_s: messages taken in, over the last few seconds.
        published: as the simulator said last.
        backfill_share: part of the past that is stored, 0 to 1.
        lag_s: seconds from the receipt of a message to its commit, or None before the first.
    """

    elapsed_s: float
    phase: str
    messages_per_s: float
    published: int
    received: int
    stored: int
    duplicate: int
    quarantined: int
    backfill_share: float
    lag_s: float | None


@dataclass(frozen=True, slots=True)
class Welcome:
    """What runs where: facts for scripts, and the same in words (Rich's markup)."""

    facts: Mapping[str, Any]
    text: str


class View(Protocol):
    """Where a demo shows itself."""

    def title(self, text: str) -> None:
        """The first line."""

    @contextmanager
    def step(self, doing: str) -> Iterator[dict[str, str]]:
        """A step of the start; its result is put under `done` into the dictionary that it yields."""
        raise NotImplementedError

    def ready(self, welcome: Welcome) -> None:
        """Everything runs and the first curve is there."""

    def status(self, status: Status) -> None:
        """One second has passed."""

    def say(self, text: str) -> None:
        """A sentence between two status lines."""

    def fail(self, text: str) -> None:
        """Why the demo ends before its time."""

    def summary(self, summary: Summary) -> None:
        """The accounts after everything was drained."""


class JsonView:
    """One JSON object a line on standard output: `status` each second, `ready` once, `summary` at the end."""

    def title(self, text: str) -> None:
        """Titles are for people."""

    @contextmanager
    def step(self, doing: str) -> Iterator[dict[str, str]]:
        """Steps are for people."""
        yield {}

    def ready(self, welcome: Welcome) -> None:
        """The URLs, and how long the start took."""
        self._write("ready", welcome.facts)

    def status(self, status: Status) -> None:
        """The second's numbers."""
        self._write("status", asdict(status))

    def say(self, text: str) -> None:
        """Sentences go to standard error, so that every line of the output is JSON."""
        sys.stderr.write(f"{text}\n")

    def fail(self, text: str) -> None:
        """On standard error as well."""
        self.say(text)

    def summary(self, summary: Summary) -> None:
        """The accounts."""
        self._write("summary", summary.facts())

    def _write(self, event: str, facts: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
        sys.stdout.flush()


class TerminalView:
    """Words, and one line that is alive; without a terminal a plain line every few seconds."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._spinner: Spinner | None = None
        self._next_plain = 0.0

    def title(self, text: str) -> None:
        """The first line, in bold."""
        self._console.print(f"[bold]{escape(text)}[/]\n", soft_wrap=True)

    @contextmanager
    def step(self, doing: str) -> Iterator[dict[str, str]]:
        """Shows what is being done, then what it came to and how long it took."""
        result: dict[str, str] = {}
        begun = time.monotonic()
        self._show(f"{escape(doing)} …")
        try:
            yield result
        finally:
            self._hide()
        done = escape(result.get("done", doing))
        self._console.print(f"  [green]✓[/] {done:<58}[dim]{time.monotonic() - begun:6.1f} s[/]")

    def ready(self, welcome: Welcome) -> None:
        """The URLs and what to try."""
        self._console.print(f"\n{welcome.text}\n", soft_wrap=True)

    def status(self, status: Status) -> None:
        """The live line, once the city has begun."""
        if status.phase == "starting":
            return
        line = status_line(status)
        if self._console.is_terminal:
            self._show(line)
        elif time.monotonic() >= self._next_plain:
            self._next_plain = time.monotonic() + PLAIN_EVERY_S
            self._console.print(line, soft_wrap=True)

    def say(self, text: str) -> None:
        """A sentence above the live line."""
        self._hide()
        self._console.print(text, soft_wrap=True)

    def fail(self, text: str) -> None:
        """In red, on standard error."""
        self._hide()
        Console(stderr=True, highlight=False).print(text, style="red", markup=False, soft_wrap=True)

    def summary(self, summary: Summary) -> None:
        """The accounts as a table, and what they prove."""
        self._hide()
        self._console.print()
        self._console.print(summary.table())
        style = "green" if summary.is_balanced and summary.is_complete else "bold red"
        self._console.print(f"\n  [{style}]{escape(summary.verdict())}[/]", soft_wrap=True)
        self._console.print("  Everything has stopped; the data is kept.", style="dim")

    def _show(self, text: str) -> None:
        if not self._console.is_terminal:
            return
        if self._spinner is None:
            self._spinner = self._console.status(text, spinner="dots", spinner_style="green")
            self._spinner.start()
        else:
            self._spinner.update(text)

    def _hide(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None


def status_line(status: Status) -> str:
    """The numbers of a second as one line, with Rich's markup."""
    quarantined = f"{status.quarantined:,}"
    parts = [
        f"[bold]{status.messages_per_s:,.0f}[/] messages/s",
        f"stored [bold]{status.stored:,}[/]",
        f"quarantined [bold red]{quarantined}[/]" if status.quarantined else f"quarantined {quarantined}",
        f"lag {lag(status.lag_s)}",
        str(timedelta(seconds=int(status.elapsed_s))),
    ]
    if status.phase == "backfill":
        parts.insert(0, f"filling in the past: {status.backfill_share:.0%}")
    if status.phase == "draining":
        parts.insert(0, "draining")
    return "  ".join(parts)


def lag(seconds: float | None) -> str:
    """A lag for people."""
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
