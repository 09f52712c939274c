"""The kernel's tracepoints as tracefs lists them: their numbers, and where the fields of their records lie.

Where tracefs is not mounted it is mounted for this process alone: by the calls of fsopen(2), to no place at all.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from typing import Final

from forklore.abi import syscalls
from forklore.abi.units import Fd
from forklore.linux import proc
from forklore.linux.libc import fail, syscall

_PLACES: Final = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_CREATE: Final = 6  # FSCONFIG_CMD_CREATE
_CLOEXEC: Final = 1
_ARCH: Final = proc.machine()
_FIELD: Final = re.compile(rb"field:[^;]*?(\w+)(?:\[\w*\])?;\s*offset:(\d+);\s*size:(\d+);")


def _call(name: str, what: str, *words: int) -> int:
    number = None if _ARCH is None else syscalls.number(_ARCH, name)
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), what)
    result: int = syscall(number, *words, *[0] * (6 - len(words)))
    if result == -1:
        raise fail(what)
    return result


class Tracefs:
    """The numbers of tracepoints. Raises OSError where tracefs can be neither read nor mounted."""

    def __init__(self) -> None:
        self._fd = self._open()

    @staticmethod
    def _open() -> Fd:
        for place in _PLACES:
            if os.access(f"{place}/events/syscalls", os.R_OK | os.X_OK):
                return Fd(os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        name = ctypes.create_string_buffer(b"tracefs")
        context = _call("fsopen", "mounting tracefs", ctypes.addressof(name), _CLOEXEC)
        try:
            _call("fsconfig", "mounting tracefs", context, _CREATE, 0, 0, 0)
            return Fd(_call("fsmount", "mounting tracefs", context, _CLOEXEC, 0))
        finally:
            os.close(context)

    def number(self, group: str, name: str) -> int | None:
        """Of a tracepoint; None where this kernel has none of that name. Raises OSError."""
        found = self._read(f"events/{group}/{name}/id", 32)
        return None if found is None else int(found)

    def fields(self, group: str, name: str) -> dict[str, tuple[int, int]]:
        """Where each field of its records lies, and how many bytes it has; none where there is no such tracepoint."""
        found = self._read(f"events/{group}/{name}/format", 1 << 16)
        return {} if found is None else fields(found)

    def _read(self, path: str, most: int) -> bytes | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        try:
            return os.read(fd, most)
        finally:
            os.close(fd)

    def close(self) -> None:
        """It is mounted no more, where it was for us."""
        os.close(self._fd)


def fields(described: bytes) -> dict[str, tuple[int, int]]:
    """Out of a tracepoint's ``format``: field to offset and size. Of a ``__data_loc`` they are those of its word."""
    return {name.decode(): (int(offset), int(size)) for name, offset, size in _FIELD.findall(described)}
