"""Ending as the traced program ended."""

from __future__ import annotations

import os
import resource
import signal

from forklore.linux.tracing.wait import Kind, WaitStatus


def end_as(status: WaitStatus) -> int:
    """The exit status to end with. Does not return for a program that a signal ended: the same signal ends us.

    Our own core would bury the program's, so none is dumped.
    """
    if status.kind is not Kind.KILLED:
        return status.code
    number = status.signal
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return 128 + number  # where the signal does not end a process (pid 1 of a namespace)
