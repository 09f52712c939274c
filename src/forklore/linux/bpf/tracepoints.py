"""Programs on the kernel's classic tracepoints, by perf_event_open(2); their numbers are in tracefs.

Where tracefs is not mounted it is mounted for this process alone: by the calls of fsopen(2), to no place at all.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

from forklore.abi import syscalls
from forklore.abi.units import Fd
from forklore.linux import proc
from forklore.linux.libc import fail, function, syscall

_PLACES: Final = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_CREATE: Final = 6  # FSCONFIG_CMD_CREATE
_CLOEXEC: Final = 1
_TRACEPOINT: Final = 2  # PERF_TYPE_TRACEPOINT
_SIZE: Final = 112
_PERF_CLOEXEC: Final = 8
_SET_BPF, _ENABLE = 0x40042408, 0x2400
_ARCH: Final = proc.machine()
_ioctl: Final = function("ioctl", ctypes.c_int, ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong)


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
        try:
            fd = os.open(f"events/{group}/{name}/id", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        try:
            return int(os.read(fd, 32))
        finally:
            os.close(fd)

    def close(self) -> None:
        """It is mounted no more, where it was for us."""
        os.close(self._fd)


def attach(program: Fd, number: int, what: str) -> Fd:
    """Run a program at each event of a tracepoint, on every processor, until the descriptor is closed."""
    block = ctypes.create_string_buffer(struct.pack("=IIQ", _TRACEPOINT, _SIZE, number).ljust(_SIZE, b"\0"), _SIZE)
    no_group = no_task = (1 << 64) - 1
    event = _call("perf_event_open", what, ctypes.addressof(block), no_task, 0, no_group, _PERF_CLOEXEC)
    try:
        for request, argument in ((_SET_BPF, program), (_ENABLE, 0)):
            if _ioctl(event, request, argument) == -1:
                raise fail(what)
    except OSError:
        os.close(event)
        raise
    return Fd(event)
