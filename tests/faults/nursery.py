"""Starts processes of ingest without the second or two that the imports of each would take: they are forked from one
process that has imported everything and done nothing else. From there on each is a process like any other.

`python -m tests.faults.nursery` is that one. It reads a JSON object a line: module, flags, log; and writes one for each
process that has begun or ended. When its input ends, it ends its children and itself.
"""

from __future__ import annotations

import json
import os
import queue
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_PRELOADED = ("telemetry.cli", "telemetry.ingest.service", "telemetry.logs", "uvloop")


class Child:
    """A process that was started.

    Attributes:
        ended: set when it has ended.
        code: its exit code, negative where a signal ended it; None while it lives.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended = threading.Event()
        self.code: int | None = None

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal, if it still lives."""
        if self.code is None:
            with suppress(ProcessLookupError):  # it has ended, and we have not heard of it yet
                os.kill(self.pid, number)


class Nursery:
    """Our end of it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._children: dict[int, Child] = {}
        self._begun: queue.Queue[Child] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, name="nursery", daemon=True)
        self._listener.start()

    def start(self, module: str, flags: Sequence[str], log: Path) -> Child:
        """Starts `python -m module flags…`; what it says is appended to the log."""
        assert self._process.stdin is not None
        order = json.dumps({"module": module, "flags": list(flags), "log": str(log)})
        self._process.stdin.write(order.encode() + b"\n")
        self._process.stdin.flush()
        return self._begun.get(timeout=180)

    def close(self) -> None:
        """Ends it, and whatever it has started."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(120)
        self._listener.join()
        self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            if event["code"] is None:
                child = self._children[event["pid"]] = Child(event["pid"])
                self._begun.put(child)
            else:
                child = self._children.pop(event["pid"])
                child.code = event["code"]
                child.ended.set()


def serve() -> None:
    """Forks on demand until the input ends."""
    for name in _PRELOADED:
        __import__(name)
    living: set[int] = set()
    # Read byte by byte from the system: a buffer would be shared with the children.
    with os.fdopen(os.dup(0), "rb", buffering=0) as orders:
        while line := orders.readline():
            order = json.loads(line)
            pid = os.fork()
            if pid == 0:
                _be(order)
            living.add(pid)
            _say(pid, None)
            threading.Thread(target=_wait, args=(pid, living), daemon=True).start()
    for pid in list(living):
        os.kill(pid, signal.SIGKILL)


def _be(order: dict[str, Any]) -> None:
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, 256)
    code: int | str | None = 0
    try:
        sys.argv = [order["module"], *order["flags"]]
        runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _wait(pid: int, living: set[int]) -> None:
    _, status = os.waitpid(pid, 0)
    living.discard(pid)
    _say(pid, os.waitstatus_to_exitcode(status))


def _say(pid: int, code: int | None) -> None:
    os.write(1, json.dumps({"pid": pid, "code": code}).encode() + b"\n")


if __name__ == "__main__":
    serve()
