"""Calls that a signal which nobody takes would not have interrupted, were it not for the tracer.

The kernel drops a signal that its target ignores, but not for a tracee (kernel/signal.c: sig_ignored): it wakes up, and
some calls answer EINTR for that, without a handler having run (signal(7)). Where such a call waits without a
limit, it is entered again, as if nothing had been. With a limit it is not: it would wait from the start again.
"""

from __future__ import annotations

import errno
from typing import Final

from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.errors import ERESTARTNOHAND
from forklore.abi.registers import LAYOUTS
from forklore.abi.units import Tid, Unavailable
from forklore.linux import proc
from forklore.sources.ptrace.kernel import Kernel

_AGAIN: Final = -ERESTARTNOHAND
"""As a result: enter the call again unless a handler is to run."""
_IGNORED_BY_DEFAULT: Final = frozenset({17, 18, 23, 28})  # SIGCHLD SIGCONT SIGURG SIGWINCH

_LIMITS: Final = (
    ("epoll_wait", 3, 0xFFFFFFFF), ("epoll_pwait", 3, 0xFFFFFFFF), ("epoll_pwait2", 3, 0), ("rt_sigtimedwait", 2, 0),
    ("semop", None, 0), ("semtimedop", 3, 0),
)  # fmt: skip
"""Calls that answer EINTR to any signal: which argument is the limit, and what it is where there is none."""


class Restarts:
    """For the machine that the tracer runs on: on others than x86, calls are set up to restart before the tracer is
    told of the signal (arch/arm64/kernel/signal.c: do_signal).
    """

    def __init__(self, kernel: Kernel, machine: Arch) -> None:
        self._kernel = kernel
        self._layout = LAYOUTS[Arch.X86_64] if machine is Arch.X86_64 else None
        self._calls = {
            number: (argument, endless)
            for name, argument, endless in _LIMITS
            if (number := syscalls.number(Arch.X86_64, name)) is not None
        }

    def before(self, tid: Tid, signal: int) -> None:
        """A tracee in signal-delivery-stop is to take ``signal``. It must not have changed registers of its own."""
        if self._layout is None:
            return
        if self._kernel.user_word(tid, self._layout.offsets["rax"]) != -errno.EINTR:
            return
        held = self._kernel.registers(tid)
        if held.layout is not self._layout:
            return
        number, words = held.call(Arch.X86_64)
        found = self._calls.get(number)
        if found is None:
            return
        argument, endless = found
        if argument is not None and words[argument] & (0xFFFFFFFF if endless else -1) != endless:
            return
        if self._ignores(tid, signal):
            self._kernel.set_registers(tid, held.replace("rax", _AGAIN))

    def _ignores(self, tid: Tid, signal: int) -> bool:
        fields = self._kernel.status(tid)
        if isinstance(fields, Unavailable):
            return False
        ignored, caught = (proc.number(fields, name, 16) or 0 for name in (b"SigIgn", b"SigCgt"))
        bit = 1 << (signal - 1)
        return bool(ignored & bit) or (signal in _IGNORED_BY_DEFAULT and not caught & bit)
