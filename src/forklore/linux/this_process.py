"""What this process is to the kernel, asked without /proc, which may not be there."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final

from forklore.linux.libc import function, prctl

_PR_GET_CHILD_SUBREAPER: Final = 37
_CAPABILITY_VERSION_3: Final = 0x20080522
"""include/uapi/linux/capability.h: 64 capabilities, in two words of each set."""
_SET: Final = ctypes.c_uint32 * 3
"""struct __user_cap_data_struct: effective, permitted, inheritable."""

_capget: Final = function("capget", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def effective_capabilities() -> int:
    """The bits of the calling thread's effective capability set (capget(2)); 0 where a seccomp filter refuses it."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (_SET * 2)()
    if _capget(ctypes.addressof(header), ctypes.addressof(sets)) == -1:
        return 0
    return int(sets[0][0] | sets[1][0] << 32)


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
