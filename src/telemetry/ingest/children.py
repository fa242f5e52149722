"""A child process that never outlives its parent. The child sees to it itself, with `telemetry --parent`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with(parent: int) -> None:
    """Asks the kernel to kill us when our parent ends, and ends at once where it has ended already.

    Nothing is lost by that: what was not committed was not acknowledged either, and the broker sends it again.

    To be called by the child when it begins. Between fork and exec, on behalf of the parent, no Python may run: another
    thread of the parent may have held a lock at that moment, which nobody would ever give back.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
