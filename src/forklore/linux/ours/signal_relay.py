"""Signals that are meant for the traced program and reach the tracer, because people know only the tracer's pid.

What the terminal sends (Ctrl-C, Ctrl-\\, hang-up) goes to the whole foreground process group: the program has it
already, and the tracer lives on to report. What a process sends to the tracer alone is passed on to the program. So is
every signal that would end the tracer, for a program may have a handler for it and send it to its whole group. A
real-time signal is taken and not passed on: each one queues (signal(7)), so a program that blocks it and waits for it
would get a second one. A fault of the tracer itself ends it all the same (kernel/signal.c: force_sig_info_to_task).
"""

from __future__ import annotations

import _thread
import os
import signal
from collections.abc import Callable
from typing import Final

from forklore.abi.syscalls import number
from forklore.abi.units import Pid, Unavailable
from forklore.linux import proc
from forklore.linux.libc import syscall
from forklore.linux.ours import leaving

_LEFT: Final = frozenset(
    {signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT}  # job control
    | {signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH}  # end nobody
    | {signal.SIGPIPE, signal.SIGXFSZ}  # CPython ignores them: a write fails instead
    | {signal.SIGALRM}  # our own timer
)
TAKEN: Final = frozenset(signal.valid_signals()) - _LEFT
"""Every signal that would end the tracer, but for SIGKILL."""
_ARCH: Final = proc.machine()
_TGKILL: Final = None if _ARCH is None else number(_ARCH, "tgkill")
_FROM_KERNEL: Final = 0x80  # SI_KERNEL
_ENDING: Final = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})


class Relay:
    """Takes the tracer's signals in a thread of its own and gives them to the program.

    Once the program itself has ended, a signal that asks to end calls ``leave`` instead. ``passed`` is told of every
    signal that is passed on: its number and how it came to us.
    """

    def __init__(
        self, pid: Pid, leave: Callable[[], None], passed: Callable[[int, signal.struct_siginfo], None]
    ) -> None:
        """Block the signals in this thread, which must be the one that starts all others, and begin to take them."""
        self._pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._leave = leave
        self._passed = passed
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN)
        _thread.start_new_thread(self._take, ())

    def _take(self) -> None:
        while True:
            info = signal.sigwaitinfo(TAKEN)
            if info.si_signo in _ENDING:
                leaving.hinted()
            if not self._alive():
                if info.si_signo in _ENDING:
                    self._leave()
            elif info.si_code != _FROM_KERNEL and info.si_signo < signal.SIGRTMIN:
                self._passed(info.si_signo, info)
                self._send(info.si_signo)

    def _alive(self) -> bool:
        try:
            signal.pidfd_send_signal(self._pidfd, 0)
        except ProcessLookupError:
            return False
        return True

    def _send(self, signo: int) -> None:
        # To the first thread by name where it takes the signal: the process as a whole keeps only one of a kind waiting
        # (signal(7)), and ours would be in the way of one that is sent to the program's process group just now.
        if _TGKILL is not None and self._takes(signo) and syscall(_TGKILL, self._pid, self._pid, signo, 0, 0, 0) == 0:
            return
        try:
            signal.pidfd_send_signal(self._pidfd, signo)
        except ProcessLookupError:
            return  # it ended in between

    def _takes(self, signo: int) -> bool:
        fields = proc.status(self._pid)
        if isinstance(fields, Unavailable) or fields.get(b"State", b"").startswith((b"Z", b"X")):
            return False
        blocked = proc.number(fields, b"SigBlk", 16)
        return blocked is not None and not blocked >> (signo - 1) & 1
