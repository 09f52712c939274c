"""What two tasks share and how one of them stands, asked of the kernel while they are held."""

from __future__ import annotations

import errno
from typing import Final

from msgspec import Struct

from forklore.abi.errors import errno_name
from forklore.abi.flags import CLONE_IO, CLONE_SYSVSEM
from forklore.abi.kcmp import UNSET, KcmpType, Order
from forklore.abi.resources import KCMP
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.linux import kcmp
from forklore.linux.proc import read_file

_EQUAL: Final = int(Order.EQUAL)  # an enum's member costs more to compare, once for every child
_VM, _FILES, _FS, _SIGHAND, _SYSVSEM, _IO = map(int, KCMP.values())


class Pair(Struct, frozen=True, gc=False):
    """kcmp(2) of two tasks, resource by resource in the table's order: an :class:`~forklore.abi.kcmp.Order` as a plain
    int, :data:`~forklore.abi.kcmp.UNSET`, or ``-errno``.
    """

    mm: int
    files: int
    fs: int
    sighand: int
    sysvsem: int
    io: int


def pair(creator: Tid, child: Tid, flags: int | None = None) -> Pair:
    """Compare a creator with its new child, both held and neither a zombie.

    With the ``flags`` of the call, six kcmp(2) and no more: a child without CLONE_SYSVSEM has no SEM_UNDO list yet
    and one without CLONE_IO no I/O context in common with anyone, so that equality means two NULLs; and CLONE_SYSVSEM
    makes a list where there was none (ipc/sem.c: copy_semundo, block/blk-ioc.c: __copy_io). What these do not settle,
    and everything without ``flags`` (None: unknown, or not right after the creation), is asked of the kernel by
    :class:`~forklore.linux.kcmp.Unset`.
    """
    ask = kcmp.raw
    mm = ask(creator, child, _VM)
    if mm == -errno.EPERM or mm == -errno.ESRCH:
        return Pair(mm, mm, mm, mm, mm, mm)  # the access check, one for all types, comes first
    sysvsem = ask(creator, child, _SYSVSEM)
    io = ask(creator, child, _IO)
    if sysvsem == _EQUAL and (flags is None or not flags & CLONE_SYSVSEM):
        sysvsem = UNSET if flags is not None else _null_or_shared(child, KcmpType.SYSVSEM)
    if io == _EQUAL:
        io = UNSET if flags is not None and not flags & CLONE_IO else _null_or_shared(child, KcmpType.IO)
    return Pair(mm, ask(creator, child, _FILES), ask(creator, child, _FS), ask(creator, child, _SIGHAND), sysvsem, io)


def _null_or_shared(task: Tid, what: KcmpType) -> int:
    with kcmp.Unset() as unset:
        null = unset.is_null(task, what)
    if isinstance(null, Unavailable):
        return -null.errno
    return UNSET if null else _EQUAL


class TaskState(Struct, frozen=True, gc=False):
    """How the kernel has a task, from /proc/TID/stat and /proc/TID/status. None: this kernel does not tell."""

    tid: Tid
    comm: bytes
    state: str
    """The state letter of proc_pid_stat(5): R, S, D, T, t, Z, X, I."""
    marks: str
    """What ps(1) adds to it: of ``<NLsl+``, in this order (:data:`forklore.decode.task_states.MARKS`)."""
    tgid: Pid
    ppid: Pid
    """The tgid of the kernel's real_parent."""
    pgrp: int
    session: int
    flags: int
    """PF_* of the kernel (include/linux/sched.h); no stable interface, but told to user space as they are."""
    start: int
    """When it was started: clock ticks since boot. With the tid, its identity."""
    exit_signal: int
    """Sent to the parent at its end; -1 for a thread."""
    uid: int
    """Effective user id."""
    umask: int | None
    """None for a zombie too, which has none."""
    ns_tids: tuple[int, ...]
    """Its tid in each pid namespace, from that of the /proc mount down to its own."""
    blocked: int
    """The signals that it blocks, as a mask: bit 0 is signal 1."""
    no_new_privs: bool | None
    seccomp: int | None
    """0 none, 1 strict, 2 filters."""
    seccomp_filters: int | None


def state(tid: Tid) -> TaskState | Unavailable:
    """Two reads of /proc; ESRCH where the task ended before or between them."""
    stat = read_stat(tid)
    status = stat if isinstance(stat, Unavailable) else read_file(f"/proc/{tid}/status", 1 << 16)
    if isinstance(stat, Unavailable) or isinstance(status, Unavailable):
        return refused(tid, status.errno if isinstance(status, Unavailable) else 0)
    try:
        return parse_state(tid, stat, status)
    except (ValueError, IndexError):
        return Unavailable(0, f"/proc/{tid}/stat and status are not as proc_pid_stat(5) has them")


def read_stat(tid: Tid) -> bytes | Unavailable:
    """The text of a thread's stat file."""
    # /proc/TID/stat adds up the times of all threads of the process at each read (fs/proc/array.c: do_task_stat).
    return read_file(f"/proc/{tid}/task/{tid}/stat", 4096)


def refused(tid: Tid, number: int) -> Unavailable:
    """The value of a failed read of a file that /proc shows to everyone who can see the task at all."""
    if number in (errno.ENOENT, errno.ESRCH):
        if kcmp.raw(tid, tid, _VM) == -errno.EPERM:  # kcmp finds it all the same
            return Unavailable(number, f"{errno_name(number)}: /proc is mounted with hidepid and does not show {tid}")
        return Unavailable(errno.ESRCH, f"ESRCH: there is no task {tid}")
    if number in (errno.EACCES, errno.EPERM):
        return Unavailable(number, f"{errno_name(number)}: /proc is mounted with hidepid, and {tid} is not this user's")
    return Unavailable(number, f"{errno_name(number)}: /proc/{tid}")


def parse_state(tid: Tid, stat: bytes, status: bytes) -> TaskState:
    """The state in the text of the two files. ValueError or IndexError if they are not as documented."""
    name, after = stat.index(b"("), stat.rindex(b")")
    # Field 3 of proc_pid_stat(5) is words[0]: field N is words[N - 3].
    words = stat[after + 2 :].split()
    field = _fields(status)
    no_new_privs = field(b"NoNewPrivs")
    umask = field(b"Umask")
    tgid = Pid(int(field(b"Tgid") or tid))
    return TaskState(
        tid=tid,
        comm=stat[name + 1 : after],
        state=words[0].decode("ascii"),
        marks=_marks(tgid, words, _int((field(b"VmLck") or b"").partition(b" ")[0] or None)),
        tgid=tgid,
        ppid=Pid(int(words[1])),
        pgrp=int(words[2]),
        session=int(words[3]),
        flags=int(words[6]),
        start=int(words[19]),
        exit_signal=int(words[35]),
        uid=int((field(b"Uid") or b"").split()[1]),
        umask=None if umask is None else int(umask, 8),
        ns_tids=tuple(int(word) for word in (field(b"NSpid") or b"").split()),
        blocked=int(field(b"SigBlk") or b"0", 16),
        no_new_privs=None if no_new_privs is None else no_new_privs == b"1",
        seccomp=_int(field(b"Seccomp")),
        seccomp_filters=_int(field(b"Seccomp_filters")),
    )


def _marks(tgid: Pid, words: list[bytes], locked: int | None) -> str:
    # As ps has them (procps, src/ps/output.c: pr_stat).
    group, session, foreground, nice, threads = (int(words[field - 3]) for field in (5, 6, 8, 19, 20))
    given = (
        ("<", nice < 0), ("N", nice > 0), ("L", bool(locked)), ("s", session == tgid), ("l", threads > 1),
        ("+", group == foreground),
    )  # fmt: skip
    return "".join(mark for mark, has in given if has)


class _fields:  # noqa: N801 - used as a function
    # One value after the other out of the text: a dictionary of all sixty lines costs several times as much.
    def __init__(self, status: bytes) -> None:
        self._text = b"\n" + status

    def __call__(self, name: bytes) -> bytes | None:
        start = self._text.find(b"\n" + name + b":")
        if start < 0:
            return None
        start += len(name) + 2
        return self._text[start : self._text.index(b"\n", start)].strip()


def _int(word: bytes | None) -> int | None:
    return None if word is None else int(word)


class Cgroup(Struct, frozen=True, gc=False):
    """A task's place in one cgroup hierarchy: a line of /proc/TID/cgroup (cgroups(7))."""

    hierarchy: int
    """0: cgroup v2."""
    controllers: bytes
    """Of a v1 hierarchy, separated by commas; empty for v2."""
    path: bytes
    """As seen from this process's cgroup namespace: one outside it begins with ``/..``."""


def cgroup(tid: Tid) -> tuple[Cgroup, ...] | Unavailable:
    """Where a task stands in every hierarchy, in the kernel's order."""
    raw = read_file(f"/proc/{tid}/cgroup")
    return refused(tid, raw.errno) if isinstance(raw, Unavailable) else parse_cgroup(raw)


def parse_cgroup(raw: bytes) -> tuple[Cgroup, ...]:
    """The lines ``hierarchy:controllers:path``; others are left out."""
    found = []
    for line in raw.split(b"\n"):
        hierarchy, _, rest = line.partition(b":")
        controllers, colon, path = rest.partition(b":")
        if colon and hierarchy.isdigit():
            found.append(Cgroup(int(hierarchy), controllers, path))
    return tuple(found)
