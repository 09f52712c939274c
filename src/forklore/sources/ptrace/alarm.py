"""A timer that interrupts waitpid, so that what is buffered is written even while the traced programs are quiet."""

from __future__ import annotations

import os
import signal
from _thread import get_native_id
from types import FrameType


class Alarm:
    """The process's SIGALRM, for the wait of the thread that calls :meth:`set`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """How often it rings; 0: not at all."""
        self._can_ring = False

    def set(self, seconds: float) -> None:
        """Interrupt this thread's wait every so often until further notice: a ring just before it interrupts nothing.

        0 stops it: a ring while the interpreter ends would end it by SIGALRM. In the main thread, or after
        :func:`hand_over`.
        """
        if seconds and not self._can_ring:  # once: it is set for every few children that end
            if get_native_id() == os.getpid():
                survive()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
            self._can_ring = True
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
        self.seconds = seconds


def survive() -> None:
    """In the main thread: a SIGALRM from elsewhere, as for the whole process group, does not end the tracer.

    Not before a program to be traced is forked, which would else find SIGALRM not ignored where it was.
    """
    signal.signal(signal.SIGALRM, _ring)


def hand_over() -> None:
    """In the main thread, before it starts the one that waits: only it can have a handler, and must not take the ring.

    The kernel gives the signal of a process to its first thread that does not block it (kernel/signal.c:
    complete_signal).
    """
    survive()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})


def _ring(_number: int, _frame: FrameType | None) -> None:
    """Makes waitpid return."""
