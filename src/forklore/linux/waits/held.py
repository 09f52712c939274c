"""The registers of a running task: it is seized, interrupted, read and let go, which takes a fraction of a millisecond.

A call that goes on after a stop does so without the program's knowing; others would fail with EINTR (signal(7)), so
whoever asks looks at the call first. A task that does not stop at once is let go of when this process ends.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from typing import Final

from forklore.abi.units import Tid, Unavailable
from forklore.abi.wait import WaitOption
from forklore.linux import kcmp
from forklore.linux.tracing import ptrace
from forklore.linux.tracing.ptrace import Registers

_PATIENCE: Final = 0.2
_PAUSE_MS: Final = 1


def registers(tid: Tid) -> Registers | Unavailable:
    """Of a task that nobody traces."""
    try:
        ptrace.seize(tid, 0)
    except OSError as problem:
        rule = kcmp.access_rule(tid) if problem.errno == 1 else problem.strerror
        return Unavailable(problem.errno or 0, f"it may not be held: {rule}")
    try:
        ptrace.interrupt(tid)
        if not _stops(tid):
            return Unavailable(0, f"it did not stop within {_PATIENCE:g} s")
        return ptrace.registers(tid)
    except OSError as problem:
        return Unavailable(problem.errno or 0, f"it could not be held: {problem.strerror}")
    finally:
        with suppress(OSError):  # it has ended
            ptrace.detach(tid)


def _stops(tid: Tid) -> bool:
    end = time.monotonic() + _PATIENCE
    while os.waitpid(tid, WaitOption.WALL | os.WNOHANG)[0] == 0:
        if time.monotonic() > end:
            return False
        select.select([], [], [], _PAUSE_MS / 1000)
    return True
