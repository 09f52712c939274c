"""What becomes of a signal at its delivery stop: it is passed on as it came, where that is not already done."""

from __future__ import annotations

import os
import signal
from typing import Final

from forklore.abi.arch import X86, Arch
from forklore.abi.units import Unavailable
from forklore.linux import proc
from forklore.sources.ptrace.kernel import Kernel
from forklore.sources.ptrace.relayed_signals import Relayed
from forklore.sources.ptrace.syscall_restarts import Restarts
from forklore.sources.ptrace.tracee import Tracee

_ROUTINE: Final = frozenset({signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH})
"""Signals that end nobody by default: their origin is not worth a request."""
_FAULTS: Final = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE})
"""Signals of an instruction that does not complete: after one of these that nobody takes, it is executed again."""

ENDING: Final = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
)
"""Signals by which servers are told to end, or are woken."""
CRASHES: Final = _FAULTS | {signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS, signal.SIGQUIT}
"""Signals that dump core where nobody takes them: the place at which they come tells what went wrong."""


class Delivery:
    """Decides for the tasks of one trace."""

    def __init__(self, kernel: Kernel, machine: Arch) -> None:
        self._kernel = kernel
        self._me = os.getpid()
        self._relayed = Relayed()
        self._restarts = Restarts(kernel, machine)
        # x86's breakpoint instruction completes. That of others does not, and abort() ends with it there.
        self._faults = _FAULTS if machine in X86 else _FAULTS | {signal.SIGTRAP}

    def passing_on(self, number: int, origin: signal.struct_siginfo, t: int) -> None:
        """The tracer is about to send the program a signal that came to it from ``origin``."""
        self._relayed.passed(number, origin, t)

    def of(self, task: Tracee, number: int, t: int, *, to_root: bool) -> int | None:
        """The signal to restart ``task`` with, 0 for none; None for a task that is to be let go with none.

        Where another than a routine signal came from is noted in the task. ``to_root``: whether it belongs to the
        process that the tracer stands for. ProcessLookupError if it is killed meanwhile.
        """
        self._restarts.before(task.tid, number)
        if number in _ROUTINE:
            return number
        origin = task.last_signal = self._kernel.signal_info(task.tid)
        if origin.sender is not None and to_root:
            return 0 if self._second(task, number, origin.sender, t) else number
        if origin.code > 0 and number in self._faults and self._kernel.dies_of(task.tid, number):
            return None  # it faults again at once, untraced, and ends as it would have without us
        return number

    def ends(self, task: Tracee, number: int) -> bool:
        """Whether a signal that dumps core ends ``task``: it has no handler for it, and does not ignore it.

        The kernel takes both away for a fault that is blocked or ignored (kernel/signal.c: force_sig_info_to_task).
        """
        fields = self._kernel.status(task.tid)
        if isinstance(fields, Unavailable):
            return False
        caught, ignored = (proc.number(fields, name, 16) or 0 for name in (b"SigCgt", b"SigIgn"))
        return not (caught | ignored) >> (number - 1) & 1

    def _second(self, task: Tracee, number: int, sender: int, t: int) -> bool:
        if sender != self._me:
            return self._relayed.by_itself(number, sender, t)
        if self._relayed.by_us(number, t):
            return True
        sent = self._relayed.origin(number)
        if sent is not None:
            self._kernel.set_signal_origin(task.tid, sent.si_code, sent.si_pid, sent.si_uid)
            task.last_signal = self._kernel.signal_info(task.tid)
        return False
