"""How system calls are written: names and arguments by python-ptrace's prototypes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from forklore.abi.units import signed

_NUMBERS = ("int", "unsigned int", "pid_t", "clockid_t", "uid_t", "gid_t", "mqd_t", "key_t", "unsigned")
_SIZES = ("size_t", "ssize_t", "long", "unsigned long", "loff_t", "off_t")


@cache
def arguments(name: str) -> tuple[tuple[str, str], ...] | None:
    """Type and name of each argument of a call; None for one that python-ptrace does not know."""
    from ptrace.syscall.prototypes import ALIASES, SYSCALL_PROTOTYPES

    found = SYSCALL_PROTOTYPES.get(name)
    if found is None:
        other = next((each for each, aliases in ALIASES.items() if name in aliases), name)
        found = SYSCALL_PROTOTYPES.get(other) or _NEWER.get(name)
    return None if found is None else tuple(found[1])


_NEWER = {
    "clone3": ("long", (("struct clone_args *", "args"), ("size_t", "size"))),
    "epoll_pwait2": (
        "long",
        (
            ("int", "epfd"), ("struct epoll_event *", "events"), ("int", "maxevents"),
            ("const struct timespec *", "timeout"), ("const sigset_t *", "sigmask"), ("size_t", "sigsetsize"),
        ),
    ),
    "futex_waitv": (
        "long",
        (
            ("struct futex_waitv *", "waiters"), ("unsigned int", "nr_futexes"), ("unsigned int", "flags"),
            ("struct timespec *", "timeout"), ("clockid_t", "clockid"),
        ),
    ),
    "futex_wait": (
        "long",
        (
            ("void *", "uaddr"), ("unsigned long", "val"), ("unsigned long", "mask"), ("unsigned int", "flags"),
            ("struct timespec *", "timeout"), ("clockid_t", "clockid"),
        ),
    ),
    "restart_syscall": ("long", ()),
}  # fmt: skip
"""Calls that python-ptrace 0.9.9 lacks (include/linux/syscalls.h)."""


def written(name: str, words: Sequence[int]) -> str:
    """``wait4(-1, 0x7ffd…, 0, NULL)``: a call with its arguments."""
    known = arguments(name)
    if known is None:
        return f"{name}({', '.join(map(hex, words))})"
    return f"{name}({', '.join(_word(kind, word) for (kind, _name), word in zip(known, words, strict=False))})"


def _word(kind: str, word: int) -> str:
    if "*" in kind:
        return hex(word) if word else "NULL"
    if kind in _NUMBERS:
        return str(signed(word))
    if kind in _SIZES:
        return str(word) if word < 1 << 32 else hex(word)
    return str(word) if word < 10 else hex(word)
