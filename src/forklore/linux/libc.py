"""The C library through ctypes: one handle, errno turned into OSError."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Final

CLIB: Final = ctypes.CDLL(None, use_errno=True)
"""The C library that this Python runs on. Every function taken from it is given argtypes and restype."""


def fail(what: str) -> OSError:
    """The OSError of the call that just returned -1, naming ``what`` was tried."""
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)


def function(name: str, result: Any, *arguments: Any) -> Any:  # noqa: ANN401 - ctypes types are not expressible
    """A function of the C library with its prototype set."""
    found = CLIB[name]
    found.restype = result
    found.argtypes = list(arguments)
    return found


_QUICK: Final = ctypes.PyDLL(None, use_errno=True)


def quick_function(name: str) -> Any:  # noqa: ANN401 - as above
    """A function that gives a long, for calls that cannot block and are made for every stop.

    The interpreter's lock is kept, and there is no prototype, by which ctypes would make an object of every argument:
    together a third of the price of a short call. So whole numbers must fit a C int, which libffi extends to a
    register, and addresses are given by ``ctypes.byref``.
    """
    found = _QUICK[name]
    found.restype = ctypes.c_long
    return found


syscall: Final = function(
    "syscall", ctypes.c_long, *[ctypes.c_long] * 1, *[ctypes.c_size_t] * 6
)
"""long syscall(long number, ...) with six machine words; returns -1 and sets errno on failure."""

prctl: Final = function("prctl", ctypes.c_int, ctypes.c_int, *[ctypes.c_size_t] * 4)
"""int prctl(int option, unsigned long arg2..arg5)."""

execve: Final = function(
    "execve", ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p), ctypes.POINTER(ctypes.c_char_p)
)
"""int execve(const char *path, char *const argv[], char *const envp[]): returns only on failure."""


class Iovec(ctypes.Structure):
    """struct iovec: where a buffer is and how long."""

    _fields_ = (("base", ctypes.c_size_t), ("length", ctypes.c_size_t))


def string_array(strings: list[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    """A NULL-terminated ``char *[]``."""
    return (ctypes.c_char_p * (len(strings) + 1))(*strings, None)
