"""What ends the sharing of a resource later: exec, unshare, setns, close_range, setsid, exit."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from forklore.abi import flags as f
from forklore.decode.calls import Call, CloseRange, Setns, Setsid, Unshare

Action = Literal["exec", "unshare", "setns", "close_range", "setsid", "exit"]


class End(Struct, frozen=True):
    """``action`` ends the sharing of ``resource`` for the task that does it."""

    resource: str
    action: Action
    why: str
    source: str


_EXEC: Final = "fs/exec.c: begin_new_exec"
_ENDS: Final = (
    End("mm", "exec", "exec gives the task a new memory", _EXEC),
    End("files", "exec", "exec makes the descriptor table private before it closes what is "
                         "close-on-exec", _EXEC),
    End("sighand", "exec", "exec makes the signal actions private and resets handlers to the default", _EXEC),
    End("thread", "exec", "exec ends every other thread of the process", "fs/exec.c: de_thread"),
    End("time_ns", "exec", "exec enters the time namespace that was set for children (since Linux 6.2)",
        "kernel/nsproxy.c: exec_task_namespaces"),
    End("fs", "unshare", "unshare(CLONE_FS), which CLONE_NEWNS and CLONE_NEWUSER imply", "kernel/fork.c: "
                                                                                         "unshare_fs"),
    End("files", "unshare", "unshare(CLONE_FILES)", "kernel/fork.c: unshare_fd"),
    End("sysvsem", "unshare", "unshare(CLONE_SYSVSEM or CLONE_NEWIPC) applies the undo values now",
    "ipc/sem.c: exit_sem"),
    End("files", "close_range", "close_range with CLOSE_RANGE_UNSHARE", "fs/file.c: sys_close_range"),
    End("sysvsem", "setns", "setns into an ipc namespace applies the undo values now", "kernel/nsproxy.c: "
                                                                                       "commit_nsset"),
    End("session", "setsid", "setsid starts a session and drops the terminal, for the whole process",
    "kernel/sys.c: ksys_setsid"),
    *(End(name, "unshare", f"unshare of the {name.removesuffix('_ns')} namespace", "kernel/nsproxy.c: "
                                                                                   "create_new_namespaces")
      for name in ("mnt_ns", "uts_ns", "ipc_ns", "user_ns", "net_ns", "cgroup_ns")),
    *(End(name, "setns", f"setns into another {name.removesuffix('_ns')} namespace", "kernel/nsproxy.c: "
                                                                                     "commit_nsset")
      for name in ("mnt_ns", "uts_ns", "ipc_ns", "user_ns", "net_ns", "cgroup_ns", "time_ns")),
    *(End(name, "exit", "the end of the task", "kernel/exit.c: do_exit")
      for name in ("mm", "fs", "files", "sighand", "thread", "sysvsem", "io")),
)  # fmt: skip

_BY_UNSHARE: Final = (
    (f.CLONE_FS, "fs"),
    (f.CLONE_FILES, "files"),
    (f.CLONE_SYSVSEM | f.CLONE_NEWIPC, "sysvsem"),
    (f.CLONE_NEWNS, "mnt_ns"),
    (f.CLONE_NEWUTS, "uts_ns"),
    (f.CLONE_NEWIPC, "ipc_ns"),
    (f.CLONE_NEWUSER, "user_ns"),
    (f.CLONE_NEWNET, "net_ns"),
    (f.CLONE_NEWCGROUP, "cgroup_ns"),
)
_BY_SETNS: Final = (
    (f.CLONE_NEWIPC, "sysvsem"),
    (f.CLONE_NEWNS, "mnt_ns"),
    (f.CLONE_NEWUTS, "uts_ns"),
    (f.CLONE_NEWIPC, "ipc_ns"),
    (f.CLONE_NEWUSER, "user_ns"),
    (f.CLONE_NEWNET, "net_ns"),
    (f.CLONE_NEWCGROUP, "cgroup_ns"),
    (f.CLONE_NEWTIME, "time_ns"),
)


def ends(resource: str) -> tuple[End, ...]:
    """What ends the sharing of a resource (a key of :class:`forklore.decode.sharing.Fate`), as far as
    anything does.

    fs, sysvsem, io and the namespaces outlive exec. unshare and setns of a pid namespace are not here: they
    decide about later children only, and so does unshare of a time namespace, until an exec.
    """
    return tuple(end for end in _ENDS if end.resource == resource)


def exec_ends() -> tuple[str, ...]:
    """The resources whose sharing every successful execve ends."""
    return tuple(end.resource for end in _ENDS if end.action == "exec" and end.resource != "time_ns")


def ended_by(call: Call) -> tuple[str, ...]:
    """The resources whose sharing ends for the caller if ``call`` succeeds; () where its arguments are not
    known.

    setns with nstype 0 does not say which namespace it enters: the descriptor does, and the result is ().
    unshare's CLONE_VM, CLONE_SIGHAND and CLONE_THREAD never do anything when they succeed.
    """
    if isinstance(call, Unshare):
        raw = call.effective.raw or 0
        return tuple(name for bits, name in _BY_UNSHARE if raw & bits)
    if isinstance(call, Setns):
        raw = call.flags.raw or 0
        return tuple(name for bits, name in _BY_SETNS if raw & bits)
    if isinstance(call, CloseRange):
        return ("files",) if call.unshares else ()
    return ("session",) if isinstance(call, Setsid) else ()
