"""What is told of a call that was just refused: the numbers that decide about it, as its record has them.

Of its caller they are read while it is held at the call's exit, and only what can have decided for its error. The tasks
of its user, which only EAGAIN asks for and which cost a look at every process of the machine, are counted when it has
been let go. That is no less exact: a traced task that ends meanwhile stays a zombie, and counts, until its status is
taken, which comes after.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from forklore.abi import clone_args
from forklore.abi.flags import CLONE_INTO_CGROUP, CLONE_PIDFD
from forklore.abi.seccomp import Mode
from forklore.abi.units import Address, Fd, Tid, Unavailable, signed
from forklore.events import records as ev
from forklore.linux import memory
from forklore.linux.caller import Numbers
from forklore.linux.tracing import filters
from forklore.sources.ptrace.kernel import Kernel
from forklore.sources.ptrace.task_table import Family
from forklore.sources.ptrace.tracee import EnteredCall, Tracee

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_ASKED: Final = {"unshare": None, "setns": -1}
"""The flags that a call asks for; None: its first word."""
_FRESH: Final = 50_000_000
_SHARE: Final = 10
_CREDIT: Final = 200_000_000


class UserTasks:
    """How many tasks a user has, without counting again for each of a run of refusals.

    A count is used again as long as no traced task came or went, for 50 ms or ten times what it took, whichever is
    longer. Where one did, it is counted anew, but counting takes 0.2 s and a tenth of the trace's time at most: beyond
    that there is no answer. What counts is processor time, not what the tracer waits for it on a busy machine.
    """

    def __init__(self, kernel: Kernel, family: Family) -> None:
        self._kernel = kernel
        self._family = family
        self._start = kernel.clock()
        self._spent = 0
        self._last: dict[int, tuple[tuple[int, int], int, int]] = {}
        """By user: what it depends on, until when it may be used, and the count."""

    def of(self, uid: int) -> int | None:
        """The count, or None where one would take too much time."""
        seen, now = self._family.stamp, self._kernel.clock()
        stamp, until, count = self._last.get(uid, ((0, 0), 0, 0))
        if stamp == seen and now < until:
            return count
        if self._spent > _CREDIT + (now - self._start) // _SHARE:
            return None
        began = self._kernel.worked()
        count = self._kernel.tasks_of(uid)
        took = self._kernel.worked() - began
        self._spent += took
        self._last[uid] = (seen, now + max(_FRESH, _SHARE * took), count)
        return count


class Refusal(Struct, eq=False):
    """A creation that was refused, to be written: a :class:`forklore.sources.ptrace.deferred.Work`."""

    task: Tracee
    record: ev.Fail
    counts: UserTasks
    emit: Callable[[ev.Fail], None]

    @property
    def tasks(self) -> Iterable[Tracee]:
        """Whose it is."""
        return (self.task,)

    def run(self) -> None:
        """Count what is still to be counted, and write it."""
        record, limits = self.record, self.record.limits
        if "rlimit_nproc" in limits and "uid" in limits and (count := self.counts.of(limits["uid"])) is not None:
            record = replace(record, limits={**limits, "user_tasks": count})
        self.emit(record)


def creation(kernel: Kernel, tid: Tid, entry: EnteredCall, refused: int) -> Numbers:
    """Of a creation."""
    struct = entry.struct if isinstance(entry.struct, bytes) else b""
    fd = None
    if entry.flags & CLONE_INTO_CGROUP and refused == errno.EBADF:
        fd = Fd(signed(clone_args.field(struct, "cgroup")))
    found = kernel.deciding(tid, refused, entry.flags, fd)
    found.update(_filters(tid, entry, found))
    if refused == errno.EFAULT and entry.flags & CLONE_PIDFD:
        where = clone_args.field(struct, "pidfd") if entry.struct is not None else entry.words[2]
        if isinstance(memory.read(tid, Address(where), 4), Unavailable):
            found["pointer_ok"] = 0
    return found


def other(kernel: Kernel, task: Tracee, entry: EnteredCall, refused: int) -> Numbers:
    """Of unshare, setns, close_range, setsid or ptrace."""
    fd = Fd(signed(entry.words[0])) if entry.name == "setns" else None
    flags = _ASKED.get(entry.name, 0)
    found = kernel.deciding(task.tid, refused, entry.words[0] if flags is None else flags, fd)
    return {**found, **_filters(task.tid, entry, found), **dict(_held_together(task))}


def _filters(tid: Tid, entry: EnteredCall, found: Numbers) -> Numbers:
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
            yield f"{ev.COMPARED[index]}_shared", 1
