"""A child process that never outlives its parent."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_LIBC = ctypes.CDLL(None)


def die_with(parent: int) -> Callable[[], None]:
    """What the child does before it becomes the command: it asks the kernel to be killed when its parent ends.

    Nothing is lost by that: what was not committed was not acknowledged either, and the broker sends it again.
    """

    def before_exec() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec
