"""Signals that ask a tracer to end, none of which can be lost.

A Python handler runs between two instructions of the main thread. A signal that comes after the last of them and before
a wait begins interrupts nothing, and is noticed when the wait is over, which may be never: of 600 leavings with
``threading.Event`` twelve did not leave. A blocked signal stays pending until somebody takes it (sigtimedwait(2)).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Final

from forklore.abi.units import Fd
from forklore.linux.ours import leaving

_ENDING: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


_LEFT: Final = frozenset({
    signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT, signal.SIGCHLD,
    signal.SIGQUIT, signal.SIGALRM,
})  # fmt: skip
"""What stops and ends as ever, by the keyboard too, and what the tracer itself needs."""


class AskedToEnd:
    """SIGINT, SIGTERM and SIGHUP of this process, for one wait of the main thread."""

    def __init__(self) -> None:
        self._waits: int | None = None
        self._asked: bool | None = False

    def keep(self) -> None:
        """From now on the signals are kept: before any other thread is made, which would else take them."""
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        for number in _ENDING:
            signal.signal(number, _asked_again)
        # Sent to the group of a program that is attached to, they end neither this process nor the trace.
        self._ignored = [n for n in signal.valid_signals() - _LEFT if signal.getsignal(n) is signal.SIG_DFL]
        for number in self._ignored:
            signal.signal(number, signal.SIG_IGN)
        self._waits = threading.get_ident()

    def wait(self, seconds: float | None) -> bool | None:
        """Until one of the signals has come, or :meth:`ask`: True; :meth:`cancel`: None; or the time is over: False."""
        found = None
        if not self._said():
            found = signal.sigwaitinfo(_ENDING) if seconds is None else signal.sigtimedwait(_ENDING, seconds)
        answer = self._asked if self._said() else found is not None
        if answer:
            leaving.asked()
        return answer

    def _said(self) -> bool:
        return self._asked is not False

    def ask(self) -> None:
        """As a signal, from any thread or handler, before the wait or during it."""
        self._wake(asked=True)

    def cancel(self) -> None:
        """There is nothing left to wait for; from any thread, as well."""
        self._wake(asked=None)

    def _wake(self, *, asked: bool | None) -> None:
        self._asked = asked
        if self._waits is not None:
            signal.pthread_kill(self._waits, signal.SIGTERM)

    def close(self) -> None:
        """Nobody waits any more: what asks to end from now on asks for haste (:mod:`forklore.linux.ours.leaving`)."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)
        for number in self._ignored:
            signal.signal(number, signal.SIG_DFL)


class Polled:
    """The same signals for a loop that waits for descriptors: :attr:`fd` can be read when one has come.

    The interpreter's own C handler writes to it (signal.set_wakeup_fd), so that none is lost before a wait.
    """

    def __init__(self) -> None:
        self.fd, self._write = (Fd(fd) for fd in os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK))
        self.said = False
        """Whether somebody has asked."""
        self._former: dict[int, object] = {}
        self._wakeup = -1

    def keep(self) -> None:
        """From now on. In the main thread."""
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in _ENDING:
            self._former[number] = signal.signal(number, self._handle)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.said = True
        leaving.asked()

    def ask(self) -> None:
        """As a signal, from any thread."""
        self.said = True
        with contextlib.suppress(BlockingIOError):  # it can be read already
            os.write(self._write, b".")

    def close(self) -> None:
        """As it was before; what asks to end from now on asks for haste."""
        if self._former:
            signal.set_wakeup_fd(self._wakeup)
            for number in self._former:
                signal.signal(number, _asked_again)
        os.close(self.fd)
        os.close(self._write)


def _asked_again(_number: int, _frame: FrameType | None) -> None:
    """What comes while the rest is looked up and written."""
    leaving.asked()
