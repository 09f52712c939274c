"""What a new task shares with the caller, resource by resource, and what later ends the sharing.

Follows kernel/fork.c: copy_process and the copy_* functions that it calls.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, Literal

from msgspec import Struct

from forklore.abi import flags as f
from forklore.abi.flags import CLONE3, UNSHARE
from forklore.abi.resources import BY_KEY, TABLE, End, When
from forklore.abi.signals import SIGRTMAX
from forklore.decode.calls import Unshare
from forklore.decode.creation import SIGCHLD, Creation, signal_text
from forklore.decode.flagset import flag_set
from forklore.decode.unsharing import ended_by, ends, exec_ends

__all__ = [
    "NAMESPACES",
    "SHARED",
    "End",
    "Fate",
    "ended_by",
    "ends",
    "exec_ends",
    "fates",
    "shared_names",
    "unshare_fates",
]

Outcome = Literal["shared", "copied", "new", "reset", "inherited"]


class Fate(Struct, frozen=True):
    """What becomes of one resource in the child.

    ``outcome``: ``shared``, one object for both from now on; ``copied``, the child has its own, equal at
    first; ``new``, the child has a fresh one; ``reset``, empty or zero in the child; ``inherited``, the
    child has the caller's value or membership, and either can change its own later. ``because`` is the flag
    that decides, or the absence of it (``no CLONE_VM``), or ``always``.
    """

    resource: str
    """A short, stable key such as ``mm`` or ``pid_ns``."""
    title: str
    outcome: Outcome
    why: str
    because: str


def shared_names(creation: Creation) -> tuple[str, ...]:
    """Short names of what the call asked to share, then of the new namespaces (``newpid``); () if not
    known."""
    return () if creation.flags.raw is None else _shared_by(creation.flags.raw)


@lru_cache(maxsize=4096)
def _shared_by(raw: int) -> tuple[str, ...]:
    shared = [resource.name for resource in SHARED if raw & resource.shared_by]
    new = [f"new{resource.name}" for resource in NAMESPACES if raw & resource.new_by]
    return (*shared, *new)


def fates(creation: Creation) -> tuple[Fate, ...]:
    """What becomes of each resource, given that the call succeeds; () where the flags are not known."""
    if creation.flags.raw is None:
        return ()
    return tuple(row(creation) for row in _ROWS)


_UNSHARED: Final[dict[str, tuple[Outcome, str]]] = {
    "fs": ("copied", "the caller gets its own, equal at first"),
    "files": ("copied", "the caller gets its own table of the same open files"),
    "sysvsem": ("reset", "undo values are applied now"),
}
_MOVED: Final[dict[When, tuple[Outcome, str]]] = {
    "now": ("new", "the caller enters a new one"),
    "children": ("new", "for the children made from now on, not for the caller"),
}


def unshare_fates(call: Unshare) -> tuple[Fate, ...]:
    """What unshare changes for the caller itself, if it succeeds; what is not here stays as it is."""
    raw = call.effective.raw
    if raw is None:
        return ()
    made = []
    for resource in (*SHARED, *NAMESPACES):
        for end in resource.ends:
            if end.action == "unshare" and raw & end.flags:
                outcome, why = _UNSHARED.get(resource.name) or _MOVED[end.when]
                because = flag_set(UNSHARE, raw & end.flags).text()
                made.append(Fate(resource.key, resource.title, outcome, why, because))
    return tuple(made)


def _has(creation: Creation, flag: int) -> bool:
    return bool((creation.flags.raw or 0) & flag)


_Row = Callable[[Creation], Fate]


def _by(resource: str, title: str, flag: int, given: tuple[Outcome, str], clear: tuple[Outcome, str]) -> _Row:
    """A row that one flag decides."""
    name = flag_set(CLONE3, flag).text()

    def row(creation: Creation) -> Fate:
        has = _has(creation, flag)
        outcome, why = given if has else clear
        return Fate(resource, title, outcome, why, name if has else f"no {name}")

    return row


def _always(resource: str, title: str, outcome: Outcome, why: str) -> _Row:
    fate = Fate(resource, title, outcome, why, "always")
    return lambda _: fate


def _in_group(resource: str, title: str, given: tuple[Outcome, str], clear: tuple[Outcome, str]) -> _Row:
    return _by(resource, title, f.CLONE_THREAD, given, clear)


def _shared(name: str, given: tuple[Outcome, str], clear: tuple[Outcome, str]) -> _Row:
    resource = BY_KEY[name]
    return _by(name, resource.title, resource.shared_by, given, clear)


def _sighand(creation: Creation) -> Fate:
    if _has(creation, f.CLONE_SIGHAND):
        return Fate(
            "sighand", "signal handlers", "shared",
            "one table of signal actions: a sigaction in either holds for both",
            "CLONE_SIGHAND",
        )  # fmt: skip
    if creation.call == "clone3" and _has(creation, f.CLONE_CLEAR_SIGHAND):
        return Fate(
            "sighand", "signal handlers", "reset",
            "every handled signal is back at its default action in the child; ignored ones stay ignored",
            "CLONE_CLEAR_SIGHAND",
        )  # fmt: skip
    return Fate(
        "sighand", "signal handlers", "copied",
        "the child starts with the same actions and changes only its own",
        "no CLONE_SIGHAND",
    )  # fmt: skip


def _parent(creation: Creation) -> Fate:
    if _has(creation, f.CLONE_THREAD):
        return Fate(
            "parent", "parent", "inherited",
            "the process keeps its parent; a thread is nobody's child to wait for",
            "CLONE_THREAD",
        )  # fmt: skip
    if _has(creation, f.CLONE_PARENT):
        return Fate(
            "parent", "parent", "inherited",
            "the caller's parent becomes the child's: the two are siblings, and the caller cannot wait for it",
            "CLONE_PARENT",
        )  # fmt: skip
    return Fate("parent", "parent", "new", "the caller is the parent and waits for the child", "no CLONE_PARENT")


def _exit_signal(creation: Creation) -> Fate:
    title = "exit signal"
    if _has(creation, f.CLONE_THREAD):
        return Fate("exit_signal", title, "reset", "a thread sends nothing when it ends", "CLONE_THREAD")
    if _has(creation, f.CLONE_PARENT):
        return Fate(
            "exit_signal", title, "inherited",
            "the one that the caller's own process was created with, not the one passed here",
            "CLONE_PARENT",
        )  # fmt: skip
    if creation.call == "clone3" and _has(creation, f.CLONE_AUTOREAP):
        return Fate(
            "exit_signal", title, "reset",
            "the child is reaped by the kernel and sends nothing",
            "CLONE_AUTOREAP",
        )  # fmt: skip
    signal = creation.exit_signal
    if signal is None:
        return Fate("exit_signal", title, "new", "what the parent gets is not known", "the call's argument")
    if signal == 0:
        return Fate(
            "exit_signal", title, "new",
            "the parent gets no signal when the child ends, and must wait with __WCLONE or __WALL",
            "exit signal 0",
        )  # fmt: skip
    if signal > SIGRTMAX:
        why = f"the parent gets nothing, for {signal} is no signal, and must wait with __WCLONE or __WALL"
        return Fate("exit_signal", title, "new", why, f"exit signal {signal}")
    wait = "" if signal == SIGCHLD else ", and must wait with __WCLONE or __WALL"
    return Fate("exit_signal", title, "new", f"the parent gets {signal_text(signal)} when the child "
                                             f"ends{wait}",
                f"exit signal {signal_text(signal)}")  # fmt: skip


def _altstack(creation: Creation) -> Fate:
    if _has(creation, f.CLONE_VM) and not _has(creation, f.CLONE_VFORK):
        return Fate(
            "altstack", "alternate signal stack", "reset",
            "two tasks in one memory cannot use the same stack: the child has none",
            "CLONE_VM without CLONE_VFORK",
        )  # fmt: skip
    if _has(creation, f.CLONE_VM):
        return Fate(
            "altstack", "alternate signal stack", "inherited",
            "the same stack: the caller is suspended and does not use it meanwhile",
            "CLONE_VM with CLONE_VFORK",
        )  # fmt: skip
    return Fate(
        "altstack", "alternate signal stack", "inherited",
        "the same address, in the child's own memory",
        "no CLONE_VM",
    )  # fmt: skip


def _clear_tid(creation: Creation) -> Fate:
    if _has(creation, f.CLONE_CHILD_CLEARTID):
        return Fate(
            "clear_child_tid", "tid cleared at exit", "new",
            ("when the child ends or execs, its tid word is set to 0 and a futex waiter on it woken, if somebody else"
             " still uses that memory"),
            "CLONE_CHILD_CLEARTID",
        )  # fmt: skip
    return Fate(
        "clear_child_tid", "tid cleared at exit", "reset",
        "nothing is written when the child ends",
        "no CLONE_CHILD_CLEARTID",
    )  # fmt: skip


def _namespace(key: str, what: str, inside: str) -> _Row:
    resource = BY_KEY[key]
    flag = resource.new_by & ~f.CLONE_EMPTY_MNTNS
    name, title = flag_set(CLONE3, flag).text(), resource.title

    def row(creation: Creation) -> Fate:
        if not _has(creation, resource.new_by):
            return Fate(key, title, "inherited", f"the child is in the caller's {what}", f"no {name}")
        if not _has(creation, flag):
            return Fate(
                key, title, "new",
                "a mount namespace with an empty root and nothing copied",
                "CLONE_EMPTY_MNTNS",
            )  # fmt: skip
        return Fate(key, title, "new", inside, name)

    return row


def _time_ns(creation: Creation) -> Fate:
    title = "time namespace"
    if not _has(creation, f.CLONE_NEWTIME):
        return Fate(
            "time_ns", title, "inherited",
            "the child is in the namespace set for the caller's children",
            "no CLONE_NEWTIME",
        )  # fmt: skip
    if _has(creation, f.CLONE_VM):
        return Fate(
            "time_ns", title, "new",
            "a new one, which the child enters at its next exec (at once before 6.12)",
            "CLONE_NEWTIME with CLONE_VM",
        )  # fmt: skip
    return Fate("time_ns", title, "new", "boot and monotonic clocks with offsets of their own", "CLONE_NEWTIME")


def _cgroup(creation: Creation) -> Fate:
    if creation.call == "clone3" and _has(creation, f.CLONE_INTO_CGROUP):
        fd = "?" if creation.cgroup is None else creation.cgroup
        return Fate(
            "cgroup", "cgroup", "new",
            f"the version 2 cgroup whose directory is descriptor {fd}",
            "CLONE_INTO_CGROUP",
        )  # fmt: skip
    return Fate("cgroup", "cgroup", "inherited", "the caller's, until either is moved", "no CLONE_INTO_CGROUP")


def _no_new_privs(creation: Creation) -> Fate:
    if creation.call == "clone3" and _has(creation, f.CLONE_NNP):
        return Fate("no_new_privs", "no_new_privs", "new", "set in the child, for good", "CLONE_NNP")
    return Fate("no_new_privs", "no_new_privs", "inherited", "as the caller has it", "always")


def _stack(creation: Creation) -> Fate:
    if creation.stack is not None:
        return Fate("stack", "stack", "new", "the child starts on the stack that the call names", "stack argument")
    if creation.call in ("clone", "clone3") and creation.words.stack is None and _has(creation, f.CLONE_VM):
        return Fate(
            "stack", "stack", "new",
            "wherever the call's stack argument points; nobody said where",
            "stack argument",
        )  # fmt: skip
    if _has(creation, f.CLONE_VM):
        return Fate(
            "stack", "stack", "shared",
            "the child runs on the caller's stack and overwrites what the caller has below it",
            "CLONE_VM without a stack",
        )  # fmt: skip
    return Fate("stack", "stack", "copied", "the same addresses, in the child's own memory", "no CLONE_VM")


def _reaping(creation: Creation) -> Fate:
    if creation.call == "clone3" and _has(creation, f.CLONE_PIDFD_AUTOKILL):
        return Fate(
            "lifetime", "lifetime", "new",
            "the child is killed when the pidfd made here is closed, and leaves no zombie",
            "CLONE_PIDFD_AUTOKILL",
        )  # fmt: skip
    if creation.call == "clone3" and _has(creation, f.CLONE_AUTOREAP):
        return Fate(
            "lifetime", "lifetime", "new",
            "no zombie is left: nobody has to wait, and nobody can",
            "CLONE_AUTOREAP",
        )  # fmt: skip
    if _has(creation, f.CLONE_THREAD):
        return Fate(
            "lifetime", "lifetime", "shared",
            "the end of the process ends the thread; alone it ends silently",
            "CLONE_THREAD",
        )  # fmt: skip
    return Fate(
        "lifetime", "lifetime", "new",
        "it outlives the caller if need be; a zombie until it is waited for",
        "no CLONE_THREAD",
    )  # fmt: skip


_NAMESPACES: Final[dict[str, _Row]] = {
    "mnt_ns": _namespace("mnt_ns", "mount namespace", "a copy of the mount tree"),
    "uts_ns": _namespace("uts_ns", "uts namespace", "its own host name, equal at first"),
    "ipc_ns": _namespace("ipc_ns", "ipc namespace", "no SysV IPC objects and POSIX message queues yet"),
    "user_ns": _namespace(
        "user_ns", "user namespace", "no uid is mapped yet, and the child has every capability inside"
    ),
    "pid_ns": _namespace(
        "pid_ns", "pid namespace for children", "the child is pid 1 in it: when it ends, all end"
    ),
    "net_ns": _namespace("net_ns", "network namespace", "only a loopback device, which is down"),
    "cgroup_ns": _namespace("cgroup_ns", "cgroup namespace", "the current cgroup is its root"),
    "time_ns": _time_ns,
}
_ROWS: Final[tuple[_Row, ...]] = (
    _shared("mm",
            ("shared", "one address space: every write, mmap and munmap of either is seen by both"),
            ("copied", ("copy on write; ranges marked MADV_DONTFORK are left out, MADV_WIPEONFORK are zero, "
                        "memory locks are dropped"))),
    _stack,
    _shared("files",
            ("shared", "one table: open, close, dup2 and close-on-exec marks of either hold for both"),
            ("copied", "its own table of the same open files: file offsets and status flags stay common")),
    _by("locks", "POSIX record locks", f.CLONE_FILES,
        ("shared", "they belong to the descriptor table, which is one"),
        ("reset", "the child holds none; flock and OFD locks belong to the open files and stay common")),
    _shared("fs",
            ("shared", "chdir, chroot and umask in either hold for both"),
            ("copied", "the child starts with the same and changes only its own")),
    _sighand,
    _shared("thread",
            ("shared", "the child is a thread of the caller's process: same pid, another tid"),
            ("new", "the child is a process of its own, with one thread")),
    _shared("sysvsem",
            ("shared", "one list of SEM_UNDO values, applied when the last of its users ends"),
            ("reset", "the child has none until it uses SEM_UNDO")),
    _shared("io",
            ("shared", "one I/O context for the disk scheduler, if the caller has one by now"),
            ("new", "its own when it first needs one; an I/O priority that was set is kept")),
    *_NAMESPACES.values(),
    _cgroup,
    _parent,
    _exit_signal,
    _reaping,
    _by("tls", "thread pointer", f.CLONE_SETTLS,
        ("new", "set to the call's tls argument"), ("inherited", "the same value as the caller's")),
    _clear_tid,
    _always("signal_mask", "blocked signals", "inherited", "the same signals are blocked"),
    _in_group("pending", "pending signals",
              ("reset", "none for the thread itself; those sent to the process are common"),
              ("reset", "none, except what reached the caller's whole group during the call")),
    _altstack,
    _in_group("timers", "timers and alarms",
              ("shared", "interval and POSIX timers belong to the process"),
              ("reset", "no interval timer, no POSIX timer, no alarm; RLIMIT_CPU counts from zero")),
    _in_group("rlimits", "resource limits",
              ("shared", "limits belong to the process"), ("copied", "equal at first")),
    _in_group("session", "session, group, terminal",
              ("shared", "they belong to the process"),
              ("inherited", "the same session, process group and controlling terminal")),
    _in_group("creds", "credentials",
              ("shared", ("the same ids and capabilities until this thread changes its own (the kernel keeps "
                         "them per thread)")),
              ("copied", "the same ids and capabilities")),
    _in_group("keyrings", "keyrings",
              ("shared", "the process keyring is common; the thread has a thread keyring of its own"),
              ("copied", "session and user keyrings are kept; thread and process keyrings are dropped")),
    _by("dumpable", "dumpable", f.CLONE_VM,
        ("shared", "it goes with the memory"), ("copied", "as the caller has it")),
    _always("seccomp", "seccomp filters", "inherited",
            "mode and filters as the caller has them; they cannot be removed"),
    _no_new_privs,
    _by("rseq", "restartable sequences", f.CLONE_VM,
        ("reset", "not registered: the child has to register its own area"),
        ("inherited", "registered at the same address in its own memory")),
    _always("robust_list", "robust futex list", "reset", "not registered in the child"),
    _always("pdeath_signal", "parent-death signal", "reset", "PR_SET_PDEATHSIG is off in the child"),
    _always("scheduling", "affinity, nice, policy", "inherited",
            "as the caller has them, unless it set reset-on-fork"),
    _in_group("times", "CPU times",
              ("reset", "the thread's own count from zero; the process adds them up"),
              ("reset", "user and system time, faults and context switches count from zero")),
    _in_group("oom_score_adj", "oom_score_adj",
              ("shared", "it belongs to the process"), ("copied", "equal at first")),
    _in_group("subreaper", "child subreaper",
              ("shared", "it belongs to the process"), ("reset", "the child is none, even if the caller is")),
    # kernel/fork.c: mm_init_aio; fs/aio.c: ioctx_alloc enters it in the memory's table.
    _by("aio", "AIO contexts", f.CLONE_VM,
        ("shared", "those of io_setup(2) belong to the memory"),
        ("reset", "none of io_setup(2)'s, and nothing that is outstanding in them")),
    _always("io_uring", "io_uring, trace state", "reset",
            "no io_uring context, no single-stepping, no hardware breakpoint, no syscall user dispatch"),
    _always("personality", "personality, comm, slack", "inherited",
            "personality, command name and timer slack as the caller has them"),
)  # fmt: skip
"""In the order in which they are shown."""

SHARED: Final = tuple(sorted((each for each in TABLE if each.shared_by), key=lambda each: each.shared_by))
"""The resources that a flag shares, by the flag's bit: the order of a tree's line."""
NAMESPACES: Final = tuple(BY_KEY[key] for key in _NAMESPACES)
"""In the order of the fates, which is that of a tree's line."""
