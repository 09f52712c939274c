"""The numbers that decide about a call that was just refused, as its record has them; the task is held at its exit."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from forklore.abi import clone_args
from forklore.abi.flags import CLONE_INTO_CGROUP, CLONE_PIDFD
from forklore.abi.seccomp import Mode
from forklore.abi.units import Address, Fd, Tid, Unavailable
from forklore.events.records import COMPARED
from forklore.linux import caller, filters, memory
from forklore.sources.ptrace.tracee import EnteredCall, Tracee

if TYPE_CHECKING:
    from collections.abc import Iterator

_ASKED: Final = {"unshare": None, "setns": -1}
"""The flags that a call asks for; None: its first word."""
_LOW32: Final = 0xFFFF_FFFF


def creation(tid: Tid, entry: EnteredCall, refused: int) -> caller.Numbers:
    """Of a creation."""
    struct = entry.struct if isinstance(entry.struct, bytes) else b""
    fd = None
    if entry.flags & CLONE_INTO_CGROUP and refused == errno.EBADF:
        fd = _signed(clone_args.field(struct, "cgroup"))
    found = caller.deciding(tid, refused, entry.flags, fd)
    found.update(_filters(tid, entry, found))
    if refused == errno.EFAULT and entry.flags & CLONE_PIDFD:
        where = clone_args.field(struct, "pidfd") if entry.struct is not None else entry.words[2]
        if isinstance(memory.read(tid, Address(where), 4), Unavailable):
            found["pointer_ok"] = 0
    return found


def other(task: Tracee, entry: EnteredCall, refused: int) -> caller.Numbers:
    """Of unshare, setns, close_range or setsid."""
    fd = _signed(entry.words[0]) if entry.name == "setns" else None
    flags = _ASKED.get(entry.name, 0)
    found = caller.deciding(task.tid, refused, entry.words[0] if flags is None else flags, fd)
    return {**found, **_filters(task.tid, entry, found), **dict(_held_together(task))}


def _filters(tid: Tid, entry: EnteredCall, found: caller.Numbers) -> caller.Numbers:
    if entry.filters != "unseen":
        return {f"seccomp_{entry.filters}": 1}
    if found.get("seccomp") != Mode.FILTER:
        return {}
    answer = filters.answer(tid, entry.arch, entry.nr, entry.words)
    return {} if answer is None else {"seccomp_tracer": 1} if answer < 0 else {"seccomp_errno": answer}


def _held_together(task: Tracee) -> Iterator[tuple[str, int]]:
    """What another process is known to hold together with the task."""
    for index, together in task.shares.items():
        if any(holder.group is not task.group and holder.alive for holder in together):
            yield f"{COMPARED[index]}_shared", 1


def _signed(word: int) -> Fd:
    low = word & _LOW32
    return Fd(low - (1 << 32) if low >> 31 else low)
