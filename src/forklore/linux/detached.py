"""The kernel's own file systems, mounted for this process alone: by the calls of fsopen(2), to no place at all."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

from forklore.abi import syscalls
from forklore.abi.units import Fd
from forklore.linux import proc
from forklore.linux.libc import fail, syscall

_CREATE: Final = 6  # FSCONFIG_CMD_CREATE
_CLOEXEC: Final = 1
_ARCH: Final = proc.machine()


def mounted(kind: str) -> Fd:
    """The root of a file system of a kind, to be closed. Raises OSError: EPERM without CAP_SYS_ADMIN."""
    what = f"mounting {kind}"
    name = ctypes.create_string_buffer(kind.encode())
    context = _call("fsopen", what, ctypes.addressof(name), _CLOEXEC)
    try:
        _call("fsconfig", what, context, _CREATE, 0, 0, 0)
        return Fd(_call("fsmount", what, context, _CLOEXEC, 0))
    finally:
        os.close(context)


def _call(name: str, what: str, *words: int) -> int:
    number = None if _ARCH is None else syscalls.number(_ARCH, name)
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), what)
    result: int = syscall(number, *words, *[0] * (6 - len(words)))
    if result == -1:
        raise fail(what)
    return result
