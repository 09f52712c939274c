"""Signal names and numbers, the same on every ABI here (alpha, mips, parisc and sparc have their own)."""

from __future__ import annotations

from typing import Final

from forklore.abi._generated_sched import CSIGNAL as CSIGNAL
from forklore.abi._generated_signals import NUMBERS
from forklore.abi._generated_signals import SIGRTMIN as SIGRTMIN

SIGRTMAX: Final = 64
"""The last signal: the kernel's _NSIG, which its exported headers do not define on x86."""
NEVER_BLOCKED: Final = NUMBERS["SIGKILL"], NUMBERS["SIGSTOP"]
"""No task can block, handle or ignore these (include/linux/signal.h: sig_kernel_only)."""

_NAMES: Final = {signal: name for name, signal in reversed(NUMBERS.items())}
_RT: Final = "SIGRT_"


def signal_name(signal: int) -> str:
    """``SIGCHLD``; ``SIGRTMIN`` and ``SIGRT_1`` to ``SIGRT_32`` for real-time ones; else ``signal 200``.

    Real-time names count from the kernel's SIGRTMIN, 32, as strace's do: glibc's SIGRTMIN is SIGRT_2.
    """
    if signal in _NAMES:
        return _NAMES[signal]
    if signal == SIGRTMIN:
        return "SIGRTMIN"
    if SIGRTMIN < signal <= SIGRTMAX:
        return f"{_RT}{signal - SIGRTMIN}"
    return f"signal {signal}"


def signal_number(name: str) -> int | None:
    """The number of a signal, by ``signal_name``'s name for it or the kernel's other (SIGIOT, SIGPOLL)."""
    if name in NUMBERS:
        return NUMBERS[name]
    if name == "SIGRTMIN":
        return SIGRTMIN
    count = name.removeprefix(_RT)
    if count != name and count.isascii() and count.isdigit() and count == str(int(count)):
        return SIGRTMIN + int(count) if int(count) <= SIGRTMAX - SIGRTMIN else None
    return None
