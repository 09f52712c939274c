"""The tasks that are there now: processes, their threads, and whether a number still means the same one.

A process is told from a later one with its pid by the time it was started, as psutil has it; a thread likewise. Tasks
come and go while they are read: what is gone is left out or :class:`Unavailable`, never an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final, Literal

import psutil
from msgspec import Struct

from forklore.abi import clone_args
from forklore.abi.flags import CLONE_VFORK
from forklore.abi.kcmp import KcmpType, Order
from forklore.abi.signals import NEVER_BLOCKED, SIGRTMAX
from forklore.abi.syscalls import name
from forklore.abi.units import Address, Pid, Tid, Unavailable
from forklore.linux import kcmp, memory, proc
from forklore.linux.namespaces import FIRST_PID, Namespaces, namespaces
from forklore.linux.observe import Cgroup, TaskState, cgroup, read_stat, refused, state
from forklore.linux.proc import machine

Maker = Literal["io_uring", "vhost", "kernel"]

# include/linux/sched.h. Both bits had other meanings before Linux 5.12 and 6.4, and 0x10 came and went with every
# virtual CPU that ran, so the mask of blocked signals has to agree.
_PF_IO_WORKER: Final = 0x10
_PF_USER_WORKER: Final = 0x4000
PF_KTHREAD: Final = 0x200000
_ALL_BLOCKED: Final = (1 << SIGRTMAX) - 1 ^ sum(1 << signal - 1 for signal in NEVER_BLOCKED)


class Seen(Struct, frozen=True):
    """One task, as it was read."""

    state: TaskState
    namespaces: Namespaces
    cgroups: tuple[Cgroup, ...] | Unavailable
    made_by: Maker | None
    """``io_uring`` or ``vhost``: a thread that the kernel put into the process, without a call that a tracer could
    see; ``kernel``: another of that kind. None: made by the program."""
    in_vfork: bool
    """Whether it is known to be held by the kernel until its vfork child executes or ends."""


class Process(Struct):
    """A process as one scan found it; :meth:`is_same` says whether it still is."""

    pid: Pid
    tasks: list[Seen]
    """The leader first, then by tid. Empty if none could be read."""
    lost: Unavailable | None
    """Why its threads could not be listed or read."""
    identity: psutil.Process | None = None

    def is_same(self) -> bool:
        """Whether the process with this pid is the one that was scanned, its end as a zombie included."""
        return self.identity is not None and bool(self.identity.is_running())


def made_by(task: TaskState) -> Maker | None:
    """Who put a thread into a process, if not its program (kernel/fork.c: create_io_thread, kernel/vhost_task.c)."""
    if task.flags & PF_KTHREAD or task.blocked != _ALL_BLOCKED:
        return None
    if task.flags & _PF_IO_WORKER:
        return "io_uring"
    if task.flags & _PF_USER_WORKER:
        return "vhost" if task.comm.startswith(b"vhost-") else "kernel"
    return None


def all_pids() -> list[Pid]:
    """Every process that /proc shows to this user, in order."""
    return [Pid(pid) for pid in sorted(psutil.pids())]


def sees_all() -> bool:
    """Whether /proc shows every process there is: those of the first pid namespace, and none of them is hidden."""
    return namespaces(Tid(os.getpid()), ("pid",))["pid"] == FIRST_PID and proc.hidepid() in ("off", "0")


def process_name(pid: Pid) -> str | None:
    """A process's name; None where it is gone or out of sight."""
    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        return None


def leader_of(tid: Tid) -> Pid | Unavailable:
    """The pid of the process that a task belongs to."""
    found = state(tid)
    return found if isinstance(found, Unavailable) else found.tgid


def descendants(pid: Pid) -> list[Pid]:
    """A process and all that /proc has as its descendants, each after its parent."""
    children: dict[int, list[int]] = {}
    for child, parent in parents():
        children.setdefault(int(parent), []).append(int(child))
    found = {int(pid): None}
    queue = [int(pid)]
    for each in queue:
        queue += [one for one in children.get(each, ()) if one not in found]
        found.update(dict.fromkeys(queue))
    return [Pid(each) for each in found]


def parents() -> Iterable[tuple[Pid, Pid]]:
    """Every process with its parent (the tgid of the kernel's real_parent)."""
    for pid in all_pids():
        words = _stat(Tid(pid))
        if words:
            yield pid, Pid(int(words[_PPID]))


def thread_ids(pid: Pid) -> list[Tid] | Unavailable:
    """The tids of a process, its leader's first."""
    try:
        names = os.listdir(f"/proc/{pid}/task")
    except OSError as problem:
        return refused(Tid(pid), problem.errno or 0)
    return [Tid(tid) for tid in sorted(map(int, names), key=lambda tid: (tid != pid, tid))]


def scan(pid: Pid, *, leader_only: bool = False) -> Process:
    """Read all threads of a process, or its leader alone."""
    try:
        identity = psutil.Process(pid)
        identity.create_time()
    except psutil.Error:
        return Process(pid, [], refused(Tid(pid), 0 if os.path.lexists(f"/proc/{pid}") else 2))
    tids = [Tid(pid)] if leader_only else thread_ids(pid)
    if isinstance(tids, Unavailable):
        return Process(pid, [], tids, identity)
    lost: Unavailable | None = None
    tasks = []
    for tid in tids:
        found = read(tid)
        if isinstance(found, Unavailable):
            lost = found
        elif found.state.tgid == pid:
            tasks.append(found)
    return Process(pid, tasks, None if tasks else lost, identity)


def read(tid: Tid) -> Seen | Unavailable:
    """All that is said of one task."""
    found = state(tid)
    if isinstance(found, Unavailable):
        return found
    return Seen(
        state=found,
        namespaces=namespaces(tid),
        cgroups=cgroup(tid),
        made_by=made_by(found),
        in_vfork=found.state == "D" and _in_vfork(tid),
    )


def started(tid: Tid) -> int | None:
    """When the task that has this tid now was started, in ticks since boot; None if there is none."""
    words = _stat(tid)
    return int(words[_START]) if words else None


def shares_memory(one: Tid, other: Tid) -> bool | None:
    """Whether two tasks have one memory; None where they may not be compared."""
    answer = kcmp.raw(one, other, KcmpType.VM)
    return None if answer < 0 else answer == Order.EQUAL


def tracer_of(tid: Tid) -> Tid | None:
    """Who traces a task; None: nobody, or it is gone."""
    fields = proc.status(tid)
    found = None if isinstance(fields, Unavailable) else proc.number(fields, b"TracerPid")
    return Tid(found) if found else None


def memory_size(tid: Tid) -> int | None:
    """Bytes of address space that a task's memory takes (vsize), which everybody may read; None for one that is gone.

    Tasks that share their memory have the same.
    """
    words = _stat(tid)
    return int(words[_VSIZE]) if words else None


_PPID, _START, _VSIZE = 4 - 3, 22 - 3, 23 - 3


def _stat(tid: Tid) -> list[bytes]:
    # From field 3 of proc_pid_stat(5) on; empty for a task that is gone.
    stat = read_stat(tid)
    return [] if isinstance(stat, Unavailable) else stat[stat.rindex(b")") + 2 :].split()


def _in_vfork(tid: Tid) -> bool:
    # A caller waits in its call until the child lets go of the memory (kernel/fork.c: wait_for_vfork_done), and
    # nothing else holds a creation call for long. Where the call may not be read, it is not known.
    arch = machine()
    held = proc.call(tid)
    if arch is None or held is None:
        return False
    nr, (first, *_) = held
    call = name(arch, nr)
    if call == "clone3":
        raw = memory.read(tid, Address(first), clone_args.VER0)
        first = 0 if isinstance(raw, Unavailable) else clone_args.field(raw, "flags")
    return call == "vfork" or (call in ("clone", "clone3") and bool(first & CLONE_VFORK))
