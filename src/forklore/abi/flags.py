"""The flags of clone(2), clone3(2), unshare(2), setns(2), close_range(2) and execveat(2), one vocabulary a call.

One bit means different things to different calls: 0x80 is CLONE_NEWTIME to clone3 and unshare, and part
of the exit signal to clone; 0x100000 is CLONE_PARENT_SETTID to clone and UNSHARE_EMPTY_MNTNS to unshare;
unshare's CLONE_FS ends what clone's begins. Values are generated. The versions are those of clone(2),
unshare(2), setns(2) and close_range(2), and of the kernel's history for what these do not have yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import chain
from typing import Final

from msgspec import Struct

from forklore.abi._generated_sched import CLONE_AUTOREAP as CLONE_AUTOREAP
from forklore.abi._generated_sched import CLONE_CHILD_CLEARTID as CLONE_CHILD_CLEARTID
from forklore.abi._generated_sched import CLONE_CHILD_SETTID as CLONE_CHILD_SETTID
from forklore.abi._generated_sched import CLONE_CLEAR_SIGHAND as CLONE_CLEAR_SIGHAND
from forklore.abi._generated_sched import CLONE_DETACHED as CLONE_DETACHED
from forklore.abi._generated_sched import CLONE_EMPTY_MNTNS as CLONE_EMPTY_MNTNS
from forklore.abi._generated_sched import CLONE_FILES as CLONE_FILES
from forklore.abi._generated_sched import CLONE_FS as CLONE_FS
from forklore.abi._generated_sched import CLONE_INTO_CGROUP as CLONE_INTO_CGROUP
from forklore.abi._generated_sched import CLONE_IO as CLONE_IO
from forklore.abi._generated_sched import CLONE_NEWCGROUP as CLONE_NEWCGROUP
from forklore.abi._generated_sched import CLONE_NEWIPC as CLONE_NEWIPC
from forklore.abi._generated_sched import CLONE_NEWNET as CLONE_NEWNET
from forklore.abi._generated_sched import CLONE_NEWNS as CLONE_NEWNS
from forklore.abi._generated_sched import CLONE_NEWPID as CLONE_NEWPID
from forklore.abi._generated_sched import CLONE_NEWTIME as CLONE_NEWTIME
from forklore.abi._generated_sched import CLONE_NEWUSER as CLONE_NEWUSER
from forklore.abi._generated_sched import CLONE_NEWUTS as CLONE_NEWUTS
from forklore.abi._generated_sched import CLONE_NNP as CLONE_NNP
from forklore.abi._generated_sched import CLONE_PARENT as CLONE_PARENT
from forklore.abi._generated_sched import CLONE_PARENT_SETTID as CLONE_PARENT_SETTID
from forklore.abi._generated_sched import CLONE_PIDFD as CLONE_PIDFD
from forklore.abi._generated_sched import CLONE_PIDFD_AUTOKILL as CLONE_PIDFD_AUTOKILL
from forklore.abi._generated_sched import CLONE_PTRACE as CLONE_PTRACE
from forklore.abi._generated_sched import CLONE_SETTLS as CLONE_SETTLS
from forklore.abi._generated_sched import CLONE_SIGHAND as CLONE_SIGHAND
from forklore.abi._generated_sched import CLONE_SYSVSEM as CLONE_SYSVSEM
from forklore.abi._generated_sched import CLONE_THREAD as CLONE_THREAD
from forklore.abi._generated_sched import CLONE_UNTRACED as CLONE_UNTRACED
from forklore.abi._generated_sched import CLONE_VFORK as CLONE_VFORK
from forklore.abi._generated_sched import CLONE_VM as CLONE_VM
from forklore.abi._generated_sched import CLOSE_RANGE_CLOEXEC as CLOSE_RANGE_CLOEXEC
from forklore.abi._generated_sched import CLOSE_RANGE_UNSHARE as CLOSE_RANGE_UNSHARE
from forklore.abi._generated_sched import CSIGNAL as CSIGNAL
from forklore.abi._generated_sched import UNSHARE_EMPTY_MNTNS as UNSHARE_EMPTY_MNTNS
from forklore.abi.resources import NAMESPACES as _RESOURCES
from forklore.abi.resources import NSTYPES

LEGACY_MASK: Final = 0xFFFFFFFF
"""What clone(2) keeps of its flags word: the rest is dropped unseen (kernel/fork.c, lower_32_bits)."""


NAMESPACES: Final = sum(NSTYPES.values())
"""Every namespace flag, as clone3 and unshare know them; to clone(2) CLONE_NEWTIME's bit is a part of the signal."""


class Flag(Struct, frozen=True):
    """One bit of one call.

    ``since`` is the Linux version in which the call took it, or that brought it if the call is younger.
    ``meaning`` is a sentence: what setting it does in this call.
    """

    name: str
    value: int
    since: str
    meaning: str


class Vocabulary(Struct, frozen=True, dict=True):
    """The flags that one call knows, ordered by value. ``name`` is the call's."""

    name: str
    flags: tuple[Flag, ...]

    @cached_property
    def mask(self) -> int:
        """All flags together."""
        return sum({flag.value for flag in self.flags})

    @cached_property
    def _by_name(self) -> Mapping[str, Flag]:
        return {flag.name: flag for flag in self.flags}

    def split(self, raw: int) -> tuple[tuple[Flag, ...], int]:
        """The flags set in ``raw``, ordered by value, and the bits of it that no flag of this call explains.

        For clone(2) give the flags word without its low byte, which is the exit signal (CSIGNAL).
        """
        return tuple(flag for flag in self.flags if raw & flag.value), raw & ~self.mask

    def by_name(self, name: str) -> Flag | None:
        """The flag of that name (CLONE_VM), or None if this call has none such."""
        return self._by_name.get(name)


_SHARING: Final = (
    Flag("CLONE_VM", CLONE_VM, "2.0",
         "The child runs in the caller's memory: each sees what the other writes, maps and unmaps."),
    Flag("CLONE_FS", CLONE_FS, "2.0",
         "Both share root directory, working directory and umask: chdir in one moves the other."),
    Flag("CLONE_FILES", CLONE_FILES, "2.0",
         "Both share one descriptor table: what one opens, closes or marks close-on-exec is so for both."),
    Flag("CLONE_SIGHAND", CLONE_SIGHAND, "2.0",
         "Both share the table of signal handlers; each keeps its own mask and pending signals."),
    Flag("CLONE_THREAD", CLONE_THREAD, "2.4.0",
         "The child is a thread of the caller's process: same pid, no exit signal, and nobody waits for it."),
    Flag("CLONE_SYSVSEM", CLONE_SYSVSEM, "2.5.10",
         "Both share one list of System V semaphore undo values, applied when the last one leaves it."),
    Flag("CLONE_IO", CLONE_IO, "2.6.25",
         "Both share the caller's I/O context, if it has one: the disk scheduler counts them as one."),
)  # fmt: skip

_CALL: Final = (
    Flag("CLONE_PIDFD", CLONE_PIDFD, "5.2",
         "The caller gets a descriptor that stands for the child, marked close-on-exec."),
    Flag("CLONE_PTRACE", CLONE_PTRACE, "2.2", "If the caller is traced, its tracer gets the child too."),
    Flag("CLONE_VFORK", CLONE_VFORK, "2.2",
         "The caller sleeps until the child has left its memory, by running another program or by ending."),
    Flag("CLONE_PARENT", CLONE_PARENT, "2.3.12",
         "The child becomes the caller's sibling: the caller's parent waits for it."),
    Flag("CLONE_SETTLS", CLONE_SETTLS, "2.5.32", "The child starts with the given thread-local storage."),
    Flag("CLONE_PARENT_SETTID", CLONE_PARENT_SETTID, "2.5.49",
         "The child's tid is stored in the caller's memory before the call returns."),
    Flag("CLONE_CHILD_CLEARTID", CLONE_CHILD_CLEARTID, "2.5.49",
         "When the child leaves memory that others use, a word in it is zeroed and a futex waiter woken."),
    Flag("CLONE_UNTRACED", CLONE_UNTRACED, "2.5.46",
         "The caller's tracer is not given the child, whatever events it asked for."),
    Flag("CLONE_CHILD_SETTID", CLONE_CHILD_SETTID, "2.5.49",
         "The child's tid is stored in the child's memory before it runs."),
)  # fmt: skip

_LEGACY_ONLY: Final = (
    Flag("CLONE_DETACHED", CLONE_DETACHED, "2.5",
         "Nothing, since 2.6.2; only a call with CLONE_PIDFD refuses it. musl sets it for every thread."),
)  # fmt: skip

_CLONE3_ONLY: Final = (
    Flag("CLONE_CLEAR_SIGHAND", CLONE_CLEAR_SIGHAND, "5.5",
         "Signals that the caller handles get their default action in the child; ignored ones stay ignored."),
    Flag("CLONE_INTO_CGROUP", CLONE_INTO_CGROUP, "5.7",
         "The child starts in the version 2 cgroup that a descriptor names."),
    Flag("CLONE_AUTOREAP", CLONE_AUTOREAP, "7.1",
         "The child leaves no zombie and sends no signal when it ends: nobody need wait for it."),
    Flag("CLONE_NNP", CLONE_NNP, "7.1", "The child starts with no_new_privs set, for good."),
    Flag("CLONE_PIDFD_AUTOKILL", CLONE_PIDFD_AUTOKILL, "7.1",
         "The child is killed when the pidfd that this call makes is closed everywhere."),
    Flag("CLONE_EMPTY_MNTNS", CLONE_EMPTY_MNTNS, "7.1",
         "The child starts in a new mount namespace that holds none of the caller's mounts."),
)  # fmt: skip

_UNSHARE_ONLY: Final = (
    Flag("CLONE_VM", CLONE_VM, "2.6.16",
         "Nothing but a test: the call fails if another task shares the memory."),
    Flag("CLONE_FS", CLONE_FS, "2.6.16",
         "The caller gets root directory, working directory and umask of its own, if they were shared."),
    Flag("CLONE_FILES", CLONE_FILES, "2.6.16",
         "The caller gets a descriptor table of its own, a copy, if it was shared."),
    Flag("CLONE_SIGHAND", CLONE_SIGHAND, "2.6.16",
         "Nothing but a test: the call fails if another task shares the table of signal handlers."),
    Flag("CLONE_THREAD", CLONE_THREAD, "2.6.16",
         "Nothing but a test: the call fails if the process has other threads."),
    Flag("CLONE_SYSVSEM", CLONE_SYSVSEM, "2.6.26",
         "The caller leaves its list of System V semaphore undo values; if it was the last, they apply now."),
    Flag("UNSHARE_EMPTY_MNTNS", UNSHARE_EMPTY_MNTNS, "7.1",
         "The caller moves to a new mount namespace that holds none of its mounts."),
)  # fmt: skip


class _Namespace(Struct, frozen=True):
    """A kind of namespace; ``clone``, ``unshare``, ``setns``: the Linux version in which each took it."""

    flag: str
    value: int
    clone: str
    unshare: str
    setns: str
    kind: str
    isolates: str


_NAMESPACES: Final = (
    _Namespace("CLONE_NEWNS", CLONE_NEWNS, "2.4.19", "2.6.16", "3.8", "mount", "the tree of mounts"),
    _Namespace("CLONE_NEWCGROUP", CLONE_NEWCGROUP, "4.6", "4.6", "4.6", "cgroup",
               "the root of the cgroup paths that are seen"),
    _Namespace("CLONE_NEWUTS", CLONE_NEWUTS, "2.6.19", "2.6.19", "3.0", "UTS", "host and domain name"),
    _Namespace("CLONE_NEWIPC", CLONE_NEWIPC, "2.6.19", "2.6.19", "3.0", "IPC",
               "System V IPC objects and POSIX message queues"),
    _Namespace("CLONE_NEWUSER", CLONE_NEWUSER, "2.6.23", "3.8", "3.8", "user",
               "user and group ids, and what capabilities apply to"),
    _Namespace("CLONE_NEWPID", CLONE_NEWPID, "2.6.24", "3.8", "3.8", "pid", "process ids"),
    _Namespace("CLONE_NEWNET", CLONE_NEWNET, "2.6.24", "2.6.24", "3.0", "network",
               "interfaces, addresses, routes and ports"),
    # clone3 refused the bit, being part of CSIGNAL, before Linux kernel commit "fork: allow CLONE_NEWTIME in
    # clone3 flags" (in v6.3; stable kernels have it too, 5.10 from 5.10.174).
    _Namespace("CLONE_NEWTIME", CLONE_NEWTIME, "6.3", "5.6", "5.8", "time",
               "the offsets of CLOCK_MONOTONIC and CLOCK_BOOTTIME"),
)  # fmt: skip


_LATER: Final = {NSTYPES[name]: each.later for name, each in _RESOURCES.items()}


def _clone_namespace(ns: _Namespace) -> Flag:
    return Flag(ns.flag, ns.value, ns.clone, f"The child starts in a new {ns.kind} namespace: {ns.isolates}.")


def _unshare_namespace(ns: _Namespace) -> Flag:
    who = "Children made from now on start in" if "unshare" in _LATER[ns.value] else "The caller moves to"
    return Flag(ns.flag, ns.value, ns.unshare, f"{who} a new {ns.kind} namespace: {ns.isolates}.")


def _setns_namespace(ns: _Namespace) -> Flag:
    who = "Children made from now on start in" if "setns" in _LATER[ns.value] else "The caller enters"
    return Flag(
        ns.flag, ns.value, ns.setns, f"{who} the {ns.kind} namespace of the descriptor: {ns.isolates}."
    )


def _vocabulary(name: str, *groups: Iterable[Flag]) -> Vocabulary:
    return Vocabulary(name, tuple(sorted(chain(*groups), key=lambda flag: flag.value)))


_CLONE_NAMESPACES: Final = tuple(map(_clone_namespace, _NAMESPACES))

CLONE: Final = _vocabulary(
    "clone", _SHARING, _CALL, _LEGACY_ONLY, (flag for flag in _CLONE_NAMESPACES if not flag.value & CSIGNAL)
)
"""clone(2): bits 8 to 31 of its flags; the low byte is the exit signal."""

CLONE3: Final = _vocabulary("clone3", _SHARING, _CALL, _CLONE3_ONLY, _CLONE_NAMESPACES)
"""clone3(2), the flags member of struct clone_args."""

UNSHARE: Final = _vocabulary("unshare", _UNSHARE_ONLY, map(_unshare_namespace, _NAMESPACES))
"""unshare(2). Some flags imply others: see kernel/fork.c, ksys_unshare."""

SETNS: Final = _vocabulary("setns", map(_setns_namespace, _NAMESPACES))
"""setns(2), its nstype: one flag with a namespace descriptor, one or more with a pidfd, or 0 for any kind."""

CLOSE_RANGE: Final = _vocabulary(
    "close_range",
    (
        Flag("CLOSE_RANGE_UNSHARE", CLOSE_RANGE_UNSHARE, "5.9",
             "The caller first gets a descriptor table of its own, if it was shared."),
        Flag("CLOSE_RANGE_CLOEXEC", CLOSE_RANGE_CLOEXEC, "5.11",
             "The descriptors are marked close-on-exec, not closed."),
    ),
)  # fmt: skip
"""close_range(2)."""

AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_EMPTY_PATH: Final = 0x1000
AT_EXECVE_CHECK: Final = 0x10000
AT_FDCWD: Final = -100
"""The descriptor that stands for the working directory. All of include/uapi/linux/fcntl.h."""

EXECVEAT: Final = _vocabulary(
    "execveat",
    (
        Flag("AT_SYMLINK_NOFOLLOW", AT_SYMLINK_NOFOLLOW, "3.19", "A symbolic link as the last part is ELOOP."),
        Flag("AT_EMPTY_PATH", AT_EMPTY_PATH, "3.19", "With an empty path the descriptor itself is executed."),
        Flag("AT_EXECVE_CHECK", AT_EXECVE_CHECK, "6.14", "Nothing is executed: the call says whether it would be."),
    ),
)
"""execveat(2)."""
