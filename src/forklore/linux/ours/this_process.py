"""What this process is to the kernel: of most, asked without /proc, which may not be there."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Final

from forklore.abi.capabilities import NAMES as CAPABILITIES
from forklore.abi.units import Pid
from forklore.linux.libc import fail, function, prctl

_PR_GET_CHILD_SUBREAPER: Final = 37
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_PTRACER: Final = 0x59616D61
"""include/uapi/linux/prctl.h."""
_CAPABILITY_VERSION_3: Final = 0x20080522
"""include/uapi/linux/capability.h: 64 capabilities, in two words of each set."""
_SET: Final = ctypes.c_uint32 * 3
"""struct __user_cap_data_struct: effective, permitted, inheritable."""

_capget: Final = function("capget", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)

_capset: Final = function("capset", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def let_trace(pid: int) -> bool:
    """Let a process, and what descends from it, attach to this one where Yama restricts that to ancestors (prctl(2),
    PR_SET_PTRACER). False where this kernel has no Yama, which then restricts nothing."""
    return bool(prctl(_PR_SET_PTRACER, pid, 0, 0, 0) == 0)


def effective_capabilities() -> int:
    """The bits of the calling thread's effective capability set (capget(2)); 0 where a seccomp filter refuses it."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (_SET * 2)()
    if _capget(ctypes.addressof(header), ctypes.addressof(sets)) == -1:
        return 0
    return int(sets[0][0] | sets[1][0] << 32)


def keep_only(names: Collection[str]) -> None:
    """Give up every capability of the calling thread but these, as far as it has them, for good: no exec brings one
    back (capset(2); prctl(2), PR_SET_NO_NEW_PRIVS). Children that there are already keep theirs. Raises OSError.
    """
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (_SET * 2)()
    if _capget(ctypes.addressof(header), ctypes.addressof(sets)) == -1:
        raise fail("capget")
    kept = sum(1 << CAPABILITIES.index(name) for name in names)
    for half, word in enumerate((kept & 0xFFFFFFFF, kept >> 32)):
        permitted = sets[half][1] & word
        sets[half][0], sets[half][1], sets[half][2] = permitted, permitted, 0
    if _capset(ctypes.addressof(header), ctypes.addressof(sets)) == -1:
        raise fail("capset")
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1:
        raise fail("PR_SET_NO_NEW_PRIVS")


def peak_memory() -> int:
    """The most memory in KiB that this process had resident so far (getrusage(2))."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def adopts_orphans() -> bool:
    """Whether descendants become this process's own children when their parent ends (prctl(2), pid_namespaces(7)):
    as the init of its pid namespace, or as a child subreaper.
    """
    answer = ctypes.c_int(0)
    asked = prctl(_PR_GET_CHILD_SUBREAPER, ctypes.addressof(answer), 0, 0, 0) == 0
    return os.getpid() == 1 or (asked and bool(answer.value))


def children() -> set[Pid]:
    """The children that this process has, those of all its threads, ended ones included (proc_pid_children(5)).

    Where the kernel has no such file, none are known.
    """
    found: set[Pid] = set()
    with suppress(OSError):
        for tid in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{tid}/children", "rb") as file:
                found.update(Pid(int(word)) for word in file.read().split())
    return found


def own_positions() -> Iterator[tuple[os.stat_result, int]]:
    """Each open file of this process, and where its descriptor stands (/proc/self/fdinfo)."""
    for fd in os.listdir("/proc/self/fd"):
        try:
            with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as lines:
                yield os.stat(int(fd)), int(next(lines).split()[1])
        except (OSError, StopIteration, IndexError, ValueError):
            continue  # closed meanwhile


def own_descriptors() -> dict[int, str]:
    """What this process has open: what each descriptor refers to, as /proc names it, by number."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # that of the listing itself
    return found


def output_device(pid: int, fd: int) -> int | None:
    """The device that a descriptor of a process is open to, 0 for none; None where that cannot be told."""
    try:
        return os.stat(f"/proc/{pid}/fd/{fd}").st_rdev
    except OSError:
        return None
