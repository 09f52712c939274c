"""Waking the loop, which waits for any child, from another thread, so that the wish cannot be lost.

A signal that comes just before waitpid(2) is lost; the end of a child is not: it can be waited for until it has been.
So who wants to wake the loop makes a child that ends at once, and waitpid(-1) tells the loop of it, for it takes the
children of every thread of the process (wait(2)). That costs nothing until it is needed. What was weighed against it:
a signal that is sent again and again polls; ppoll(2) or sigwaitinfo(2) before each wait is one more system call at
every stop of every tracee; a child kept ready would be there for the whole trace, and ECHILD, which says that nothing
is traced any more, would not come while it is.
"""

from __future__ import annotations

import _thread

from forklore.abi.units import Pid, Tid
from forklore.sources.ptrace.kernel import Kernel


class Wake:
    """Wakes the loop, at most once."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._lock = _thread.allocate_lock()
        self._child: Pid | None = None
        self._over = False

    def __call__(self) -> None:
        """Wake the loop, if it still waits. OSError where no process can be made."""
        with self._lock:
            if self._child is None and not self._over:
                self._child = self._kernel.ended_child()

    def took(self, tid: Tid) -> bool:
        """Whether a status of ``tid``, which the loop got, is the one that wakes it."""
        with self._lock:  # the child may have ended before who made it has noted its pid
            woken = self._child is not None and tid == Tid(self._child)
            self._over = self._over or woken
            return woken

    def close(self) -> None:
        """The loop waits no more: no child is left behind."""
        with self._lock:
            if self._child is not None and not self._over:
                self._kernel.reap(self._child)
            self._over = True
