"""What tasks share: each resource once, with what shares it, makes it new and ends the sharing, and how it is seen.

Whatever knows a resource, a flag of one, or the order in which they are shown has it from here. Follows kernel/fork.c:
copy_process and ksys_unshare, kernel/nsproxy.c, and fs/exec.c: begin_new_exec.
"""

from __future__ import annotations

from functools import reduce
from itertools import chain
from operator import or_
from typing import Final, Literal

from msgspec import Struct

from forklore.abi import _generated_sched as f
from forklore.abi._generated_kcmp import KcmpType

Kind = Literal["object", "group", "namespace", "place"]
"""How it is seen. ``object``: kcmp(2) compares it. ``group``: the thread group, by its tgid. ``namespace``: by its link
below /proc/TID/ns. ``place``: where a task stands among cgroups, by /proc/TID/cgroup."""

Action = Literal["exec", "unshare", "setns", "close_range", "setsid", "exit"]

When = Literal["now", "children", "pending"]
"""``now``: for the task itself and at once. ``children``: the task stays, and those that it makes from then on go
elsewhere. ``pending``: an exec enters what was set for children, if anything was."""


class End(Struct, frozen=True):
    """``action`` ends the sharing of a resource for the task that does it."""

    action: Action
    why: str
    source: str
    flags: int = 0
    """Of unshare (with those that it adds itself), setns or close_range: any of these. 0: the action has none."""
    when: When = "now"
    since: tuple[int, ...] | None = None
    """The version of Linux that brought it, where that counts."""


class Resource(Struct, frozen=True):
    """Something of a task that it can have in common with others."""

    name: str
    """In traces and views; a namespace's is its link below /proc/TID/ns (``mnt``)."""
    title: str
    kind: Kind
    shared_by: int = 0
    """The flag of clone and clone3 that shares it; without it the child has its own. 0: there is none, and the child is
    where its creator is unless ``new_by`` says otherwise."""
    new_by: int = 0
    """The flags of clone and clone3 of which any puts the child elsewhere. clone(2) has no bit for some of them."""
    kcmp: KcmpType | None = None
    nullable: bool = False
    """Whether a task can be without one; two such tasks compare as equal."""
    ends: tuple[End, ...] = ()

    @property
    def key(self) -> str:
        """Another for each resource: a namespace's is its name and ``_ns``, for two are named ``cgroup``."""
        return f"{self.name}_ns" if self.kind == "namespace" else self.name

    @property
    def later(self) -> frozenset[Action]:
        """The calls that set it for later children and leave it as it is for their caller."""
        return frozenset(end.action for end in self.ends if end.when == "children")

    def entered_by_exec(self, kernel: tuple[int, ...] | None = None) -> bool:
        """Whether an exec enters what was set for children, on a ``kernel`` of that version if it is known."""
        pending = (end for end in self.ends if end.when == "pending")
        return any(kernel is None or end.since is None or kernel >= end.since for end in pending)


_NSPROXY: Final = "kernel/nsproxy.c: create_new_namespaces"
_NSSET: Final = "kernel/nsproxy.c: commit_nsset"
_EXEC: Final = "fs/exec.c: begin_new_exec"
_EXIT: Final = End("exit", "the end of the task", "kernel/exit.c: do_exit")


def _namespace(name: str, flag: int, *further: End, also: int = 0, later: tuple[Action, ...] = ()) -> Resource:
    # A namespace that ``flag`` of clone3, unshare and setns stands for; ``also``: what implies it in clone3.
    unshare = End("unshare", f"unshare of the {name} namespace", _NSPROXY, flag,
                  "children" if "unshare" in later else "now")  # fmt: skip
    setns = End("setns", f"setns into another {name} namespace", _NSSET, flag,
                "children" if "setns" in later else "now")  # fmt: skip
    return Resource(name, f"{name} namespace", "namespace", new_by=flag | also, ends=(*further, unshare, setns))


TABLE: Final = (
    Resource("mm", "memory", "object", f.CLONE_VM, kcmp=KcmpType.VM, ends=(
        End("exec", "exec gives the task a new memory", _EXEC),
        _EXIT,
    )),
    Resource("files", "descriptor table", "object", f.CLONE_FILES, kcmp=KcmpType.FILES, ends=(
        End("exec", "exec makes the descriptor table private before it closes what is close-on-exec", _EXEC),
        End("unshare", "unshare(CLONE_FILES)", "kernel/fork.c: unshare_fd", f.CLONE_FILES),
        End("close_range", "close_range with CLOSE_RANGE_UNSHARE", "fs/file.c: sys_close_range",
            f.CLOSE_RANGE_UNSHARE),
        _EXIT,
    )),
    Resource("fs", "root, cwd, umask", "object", f.CLONE_FS, kcmp=KcmpType.FS, ends=(
        End("unshare", "unshare(CLONE_FS), which CLONE_NEWNS and CLONE_NEWUSER imply", "kernel/fork.c: unshare_fs",
            f.CLONE_FS),
        _EXIT,
    )),
    Resource("sighand", "signal handlers", "object", f.CLONE_SIGHAND, kcmp=KcmpType.SIGHAND, ends=(
        End("exec", "exec makes the signal actions private and resets handlers to the default", _EXEC),
        _EXIT,
    )),
    Resource("thread", "thread group", "group", f.CLONE_THREAD, ends=(
        End("exec", "exec ends every other thread of the process", "fs/exec.c: de_thread"),
        _EXIT,
    )),
    Resource("sysvsem", "SysV semaphore undo", "object", f.CLONE_SYSVSEM, kcmp=KcmpType.SYSVSEM, nullable=True, ends=(
        End("unshare", "unshare(CLONE_SYSVSEM or CLONE_NEWIPC) applies the undo values now", "ipc/sem.c: exit_sem",
            f.CLONE_SYSVSEM | f.CLONE_NEWIPC),
        End("setns", "setns into an ipc namespace applies the undo values now", _NSSET, f.CLONE_NEWIPC),
        _EXIT,
    )),
    Resource("io", "I/O context", "object", f.CLONE_IO, kcmp=KcmpType.IO, nullable=True, ends=(_EXIT,)),
    _namespace("mnt", f.CLONE_NEWNS, also=f.CLONE_EMPTY_MNTNS),
    _namespace("uts", f.CLONE_NEWUTS),
    _namespace("ipc", f.CLONE_NEWIPC),
    _namespace("net", f.CLONE_NEWNET),
    # An exec enters it since Linux kernel commit 2b5f9dad32ed ("fs/exec: switch timens when a task gets a new mm").
    # kernel/nsproxy.c: unshare_nsproxy_namespaces and kernel/pid_namespace.c: pidns_install replace
    # pid_ns_for_children and time_ns_for_children only; kernel/time/namespace.c: timens_install replaces both.
    _namespace("pid", f.CLONE_NEWPID, later=("unshare", "setns")),
    _namespace("time", f.CLONE_NEWTIME,
               End("exec", "exec enters the time namespace that was set for children (since Linux 6.2)",
                   "kernel/nsproxy.c: exec_task_namespaces", when="pending", since=(6, 2)),
               later=("unshare",)),
    _namespace("user", f.CLONE_NEWUSER),
    _namespace("cgroup", f.CLONE_NEWCGROUP),
    Resource("cgroup", "cgroup", "place", new_by=f.CLONE_INTO_CGROUP),
)  # fmt: skip
"""In the order of tables and of the fields of a trace."""

BY_KEY: Final = {resource.key: resource for resource in TABLE}
OBJECTS: Final = {resource.name: resource for resource in TABLE if resource.kind == "object"}
"""By name."""
NAMESPACES: Final = {resource.name: resource for resource in TABLE if resource.kind == "namespace"}
"""By name."""
NULLABLE: Final = frozenset(name for name, resource in OBJECTS.items() if resource.nullable)
KCMP: Final = {resource.name: resource.kcmp for resource in TABLE if resource.kcmp is not None}
"""By the name of an object, how kcmp(2) is asked to compare it."""
NSTYPES: Final = {
    name: end.flags for name, each in NAMESPACES.items() for end in each.ends if end.action == "setns"
}
"""By the name of a namespace, the flag that stands for its type: of clone3, unshare and setns."""
APART: Final = reduce(or_, (resource.new_by for resource in TABLE)) | f.CLONE_NNP
"""The flags of clone and clone3 with which a child does not stand where and as its creator does."""
EXEC_ENDS: Final = tuple(name for name, each in OBJECTS.items() if any(end.action == "exec" for end in each.ends))
"""The names of the objects that every execve makes a task's own."""


def link_names() -> tuple[str, ...]:
    """The links below /proc/TID/ns: a namespace's own, and where a task's children can be in another, theirs."""
    both = ((name, f"{name}_for_children") if each.later else (name,) for name, each in NAMESPACES.items())
    return tuple(chain.from_iterable(both))
