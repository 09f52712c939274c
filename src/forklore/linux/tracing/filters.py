"""What the seccomp filters of a task that is held answer to a call: PTRACE_SECCOMP_GET_FILTER (ptrace(2))."""

from __future__ import annotations

import ctypes
import errno
import struct
from typing import Final

from forklore.abi.arch import Arch
from forklore.abi.seccomp import FILTER, MAX_INSTRUCTIONS, SECCOMP_RET_ACTION_FULL, SECCOMP_RET_DATA, Action
from forklore.abi.units import Tid
from forklore.decode.classic_bpf import run
from forklore.linux.tracing import ptrace

_DATA: Final = struct.Struct("<iIQ6Q")
_LOW64: Final = 0xFFFF_FFFF_FFFF_FFFF
_LIMIT: Final = 64
"""Of filters; a sandbox in a container has a handful."""
_MAX_ERRNO: Final = 4095


def answer(tid: Tid, arch: Arch, nr: int, words: tuple[int, ...]) -> int | None:
    """The errno that the filters give a call, 0 if they let it pass, minus one if they hand it to a tracer.

    None where they cannot be read, which takes CAP_SYS_ADMIN in the first user namespace and no filter of our own
    (kernel/seccomp.c: get_nth_filter), or where their answer is none of these.
    """
    data = _DATA.pack(nr, arch.audit, 0, *(word & _LOW64 for word in words[:6]))
    strongest: int | None = None
    buffer = ctypes.create_string_buffer(MAX_INSTRUCTIONS * FILTER.size)
    for index in range(_LIMIT):
        try:
            count = ptrace.seccomp_filter(tid, index, ctypes.addressof(buffer))
        except OSError as problem:
            if problem.errno != errno.ENOENT:
                return None
            return None if strongest is None else _told(strongest)
        found = run(buffer.raw[: count * FILTER.size], data)
        if found is None:
            return None
        if strongest is None or _rank(found) < _rank(strongest):
            strongest = found
    return None


def _rank(returned: int) -> int:
    # The kernel compares the actions as signed numbers: KILL_PROCESS is the least (kernel/seccomp.c).
    action = returned & SECCOMP_RET_ACTION_FULL
    return action - (1 << 32) if action >> 31 else action


def _told(returned: int) -> int | None:
    action = returned & SECCOMP_RET_ACTION_FULL
    if action == Action.ERRNO:
        return min(returned & SECCOMP_RET_DATA, _MAX_ERRNO)
    if action == Action.TRACE:
        return -1
    return 0 if action in (Action.ALLOW, Action.LOG) else None
