"""Errors: the number, the name and a sentence. All ABIs that forklore knows share one numbering."""

from __future__ import annotations

from typing import Final

from forklore.abi._generated_errno import NUMBERS

# include/linux/errno.h: where user space sees EINTR or a call made again, a tracer sees these in the result.
_KERNEL: Final = {
    "ERESTARTSYS": 512,
    "ERESTARTNOINTR": 513,
    "ERESTARTNOHAND": 514,
    "ENOIOCTLCMD": 515,
    "ERESTART_RESTARTBLOCK": 516,
    "EPROBE_DEFER": 517,
    "EOPENSTALE": 518,
    "ENOPARAM": 519,
}
_NAMES: Final = {number: name for table in (NUMBERS, _KERNEL) for name, number in reversed(table.items())}

RESTARTS: Final = frozenset(number for name, number in _KERNEL.items() if name.startswith("ERESTART"))
"""The errors by which the kernel marks an interrupted call that it may make again (kernel/signal.c)."""

ERESTARTNOHAND: Final = _KERNEL["ERESTARTNOHAND"]

MAX_ERRNO: Final = 4095
"""A call failed if its result, taken as unsigned, is within this many of the top (include/linux/err.h)."""

_TEXTS: Final = {
    "EPERM": "the caller lacks the privilege, or a rule forbids it",
    "ENOENT": "no such file or directory",
    "ESRCH": "no such task, or it is not stopped under this tracer",
    "EINTR": "a signal interrupted the call",
    "EIO": "input or output failed, or the address or option is not valid",
    "E2BIG": "the argument list or struct is too long, or asks for what this kernel does not know",
    "ENOEXEC": "not a program that this kernel can run",
    "EBADF": "not an open descriptor of the right kind",
    "ECHILD": "there is no child to wait for",
    "EAGAIN": "a limit is reached, or the resource is busy for now",
    "ENOMEM": "out of memory, or what was asked cannot be allocated",
    "EACCES": "permission denied",
    "EFAULT": "the address is not one that the caller can use",
    "EBUSY": "in use",
    "EEXIST": "it exists already",
    "ENODEV": "no such device, or it is gone",
    "ENOTDIR": "a part of the path is not a directory",
    "EISDIR": "it is a directory",
    "EINVAL": "an argument is not valid, or not together with the others",
    "ENFILE": "the system has no more file table entries",
    "EMFILE": "the process has no more descriptors",
    "ETXTBSY": "the program file is open for writing",
    "ENOSPC": "no space left, or a count limit is reached",
    "ERANGE": "the value is out of range",
    "ENAMETOOLONG": "the name is too long",
    "ENOSYS": "no such system call here, or a filter says so",
    "ELOOP": "too many symbolic links",
    "EUSERS": "too many users, or threads that must not be there",
    "EOPNOTSUPP": "the operation is not supported on this",
    "ETIMEDOUT": "it took too long",
    "ERESTARTSYS": "interrupted; made again unless a handler without SA_RESTART runs",
    "ERESTARTNOINTR": "interrupted by a signal; the kernel makes the call again, unseen by the program",
    "ERESTARTNOHAND": "interrupted; made again unless a signal handler runs",
    "ERESTART_RESTARTBLOCK": "interrupted; resumed with what time is left unless a signal handler runs",
}


def errno_name(errno: int) -> str:
    """``EINVAL``; the kernel's own ``ERESTARTSYS`` and its like too; ``errno 999`` for one without a name."""
    return _NAMES.get(errno, f"errno {errno}")


def errno_text(errno: int) -> str:
    """What the error says, in a phrase; the name again where there is no phrase for it."""
    name = errno_name(errno)
    return _TEXTS.get(name, name)


def errno_number(name: str) -> int | None:
    """The number of an error, by any of its names (EAGAIN or EWOULDBLOCK)."""
    return NUMBERS.get(name, _KERNEL.get(name))
