"""From what the tracer holds to the records of the event log."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from forklore.abi.arch import Arch
from forklore.abi.text import as_text
from forklore.abi.units import TaskId, Tid, Unavailable
from forklore.events import records as ev
from forklore.sources.outbox import Outbox
from forklore.sources.ptrace import refused
from forklore.sources.ptrace.kernel import Kernel
from forklore.sources.ptrace.tracee import EnteredCall, Tracee

_LONG: Final = 1_000_000
"""In ns: a call that makes a child within this time is like all others, and its time is not written down."""
NOT_RECORDED: Final = Unavailable(0, "not recorded")


def hexadecimal(value: bytes | Unavailable | None) -> str | Unavailable | None:
    """Bytes of a struct, or why there are none."""
    if value is None:
        return None
    return value if isinstance(value, Unavailable) else value.hex()


def text(value: bytes | Unavailable | None) -> ev.Text | Unavailable:
    """A string, or why there is none."""
    if value is None:
        return NOT_RECORDED
    return value if isinstance(value, Unavailable) else ev.text(value)


def texts(values: list[bytes] | Unavailable | None) -> list[ev.Text] | Unavailable:
    """Strings, or why there are none."""
    if values is None:
        return NOT_RECORDED
    return values if isinstance(values, Unavailable) else [ev.text(v) for v in values]


def ns_tids(kernel: Kernel, tid: Tid) -> list[int] | None:
    """A task's tids from our pid namespace down to its own, where these differ; None also where it is gone."""
    found = kernel.ns_tids(tid)
    return found if found is not None and len(found) > 1 else None


def create(
    kernel: Kernel, t: int, creator: TaskId, child: TaskId, tid: Tid, entry: EnteredCall | None, machine: Arch, *,
    stop: ev.CreateStop | None, traced: bool, nested: bool, kcmp: tuple[int, ...] | Unavailable | None = None,
    standing: ev.Standing | Unavailable | None = None,
) -> ev.Create:
    """A creation, decoded by nobody yet: its raw words, the struct they point to, the child's tids, what was seen."""
    inner = ns_tids(kernel, tid) if nested else None
    if entry is None:
        return ev.Create(
            t=t, task=creator, arch=machine, nr=None, child=child, tid=tid, stop=stop, traced=traced, ns_tids=inner,
            kcmp=kcmp, standing=standing,  # type: ignore[arg-type]
        )
    return ev.Create(
        t=t, task=creator, arch=entry.arch, nr=entry.nr, args=entry.words, struct=hexadecimal(entry.struct),
        set_tid=hexadecimal(entry.set_tid), child=child, tid=tid, stop=stop, traced=traced, ns_tids=inner,
        untraced_cleared=entry.cleared, kcmp=kcmp, standing=standing,  # type: ignore[arg-type]
        stack=entry.stack, script=entry.script, runs=entry.runs, took=entry.took if entry.took >= _LONG else 0,
    )


def fail(kernel: Kernel, t: int, task: Tracee, entry: EnteredCall, errno: int) -> ev.Fail:
    """A refused creation, with what may have decided and is told of the task, which is held at the call's exit."""
    return ev.Fail(
        t=t, task=task.id, arch=entry.arch, nr=entry.nr, args=entry.words, struct=hexadecimal(entry.struct),
        set_tid=hexadecimal(entry.set_tid), errno=errno, limits=refused.creation(kernel, task.tid, entry, errno),
        stack=entry.stack, script=entry.script,
    )


def tell(out: Outbox, record: ev.Create | ev.Fail, entry: EnteredCall | None) -> None:
    """Write a creation or its refusal; where its caller is not read yet, when it is."""
    if entry is None or not entry.unread:
        out(record)
    elif isinstance(record, ev.Create):
        out.later(lambda: out(replace(record, stack=entry.stack, script=entry.script, runs=entry.runs)))
    else:
        out.later(lambda: out(replace(record, stack=entry.stack, script=entry.script)))


def exec_fail(t: int, task: Tracee, entry: EnteredCall, errno: int) -> ev.ExecFail:
    """A refused execve."""
    return ev.ExecFail(
        t=t, task=task.id, path=text(entry.path), at=entry.at, argv=texts(entry.argv), argc=entry.argc, cut=entry.cut,
        errno=errno,
    )  # fmt: skip


def standing(kernel: Kernel, tid: Tid) -> ev.Standing | Unavailable:
    """How the kernel has a task that is held: parent, group, session, signals, seccomp, namespaces, cgroup."""
    found = kernel.state(tid)
    if isinstance(found, Unavailable):
        return found
    cgroups = kernel.file(f"/proc/{tid}/cgroup")
    return ev.Standing(
        ppid=found.ppid,
        pgrp=found.pgrp,
        session=found.session,
        exit_signal=found.exit_signal,
        no_new_privs=found.no_new_privs,
        seccomp=found.seccomp,
        seccomp_filters=found.seccomp_filters,
        umask=found.umask,
        namespaces=kernel.namespaces(tid),
        cgroups=cgroups if isinstance(cgroups, Unavailable) else [ev.text(line) for line in cgroups.splitlines()],
    )


def other(
    kernel: Kernel,
    t: int,
    task: Tracee,
    entry: EnteredCall,
    result: int | None,
    compared: dict[str, tuple[int, int]],
    *,
    ns: bool,
) -> ev.Other:
    """unshare, setns, close_range, setsid or ptrace, as it returned; with the namespaces it has now, where ``ns``."""
    named = as_text(entry.target) if isinstance(entry.target, bytes) else None
    return ev.Other(
        t=t, task=task.id, arch=entry.arch, nr=entry.nr, args=entry.words, result=result, target=named,
        compared=compared, standing=ev.Standing(namespaces=kernel.namespaces(task.tid)) if ns else None,
        limits=refused.other(kernel, task, entry, -result) if result is not None and result < 0 else {},
    )


def executed(
    kernel: Kernel,
    t: int,
    task: Tracee,
    entry: EnteredCall | None,
    former: Tid,
    compared: dict[str, tuple[int, int]],
    *,
    argv: bool,
    env: bool,
) -> ev.Exec:
    """A new image; the task is held at its exec event. Without an entry stop, /proc tells what it can.

    Notes the task's new name.
    """
    tid = task.tid
    if entry is not None:
        path, arguments, argc = entry.path, entry.argv, entry.argc
    else:
        path, arguments, argc = kernel.executable(tid), kernel.arguments(tid) if argv else None, None
    name = kernel.comm(tid)
    task.comm = None if isinstance(name, Unavailable) else name
    environment = kernel.environment(tid) if env else None
    ids = kernel.set_ids(tid)
    return ev.Exec(
        t=t,
        task=task.id,
        path=text(path),
        at=None if entry is None else entry.at,
        argv=texts(arguments),
        argc=argc,
        cut=[] if entry is None else entry.cut,
        exe=text(kernel.executable(tid)),
        comm=None if task.comm is None else ev.text(task.comm),
        former_tid=former if former != tid else None,
        began=None if entry is None else entry.t,
        compared=compared,
        standing=ev.Standing(namespaces=kernel.namespaces(tid)) if task.time_pending else None,
        envp=[ev.text(entry) for entry in environment] if isinstance(environment, list) else None,
        set_id=None if ids is None else ev.SetId(ids.uid, ids.gid, ids.euid, ids.egid),
    )


_COMM_LENGTH: Final = 15


def killed_in_exec(kernel: Kernel, t: int, task: Tracee, entry: EnteredCall) -> ev.Exec | ev.Note:
    """A task was killed after it called execve and before its exec event: what can still be told of it.

    SIGKILL takes a task out of the event stop, or keeps it from stopping (kernel/signal.c: ptrace_stop). Its name
    changes at the point of no return (fs/exec.c: begin_new_exec), and a zombie that its parent has not waited for
    still has it.
    """
    path = entry.path if isinstance(entry.path, bytes) else b""
    wanted = path.rpartition(b"/")[2][:_COMM_LENGTH]
    name = kernel.comm(task.tid)
    if wanted and name == wanted and task.comm != wanted:
        gone = Unavailable(0, "killed before it could be read")
        return ev.Exec(
            t=t, task=task.id, path=text(entry.path), at=entry.at, argv=texts(entry.argv), argc=entry.argc,
            cut=entry.cut, exe=gone, comm=ev.text(wanted), began=entry.t,
        )
    shown = as_text(path) or "a program"
    return ev.Note(
        t=t,
        task=task.id,
        what=f"whether {task.tid} executed {shown}",
        why="it was killed after it called execve and before it could report",
    )
