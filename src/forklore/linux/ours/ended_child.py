"""A child that ends at once: its status is there for who waits for any child, and cannot be lost."""

from __future__ import annotations

import ctypes
import signal
from typing import Final

from forklore.abi.flags import CLONE_VFORK, CLONE_VM
from forklore.abi.units import Pid
from forklore.linux.libc import CLIB, fail, function

_clone: Final = function(
    "clone", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
)  # fmt: skip
_STACK: Final = 1 << 14


def ended_child() -> Pid:
    """Make a child that runs ``_exit(0)`` in our memory and nothing else, so that no lock of ours can stop it.

    It sends no signal at its end: one that sends SIGCHLD would be gone without a status where that is ignored
    (kernel/signal.c: do_notify_parent). To be waited for with __WALL. OSError where no process can be made.
    """
    stack = ctypes.create_string_buffer(_STACK)
    top = (ctypes.addressof(stack) + _STACK) & ~15
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # our handlers are not the child's
    try:
        pid = _clone(ctypes.cast(CLIB._exit, ctypes.c_void_p), top, CLONE_VM | CLONE_VFORK, None)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if pid == -1:
        raise fail("clone")
    return Pid(pid)
