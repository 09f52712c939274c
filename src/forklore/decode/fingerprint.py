"""Which library function makes exactly such a call: what the form of a creation tells without a stack.

Libraries pass the same flags, exit signal and kind of stack every time, and few pass the same as another. Anybody can
make the same call by hand, so a fingerprint names who makes such calls, not who made this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from forklore.abi import flags as f
from forklore.abi.arch import Arch
from forklore.abi.clone_args import VER2
from forklore.decode.callers import GO_THREAD, NAMESPACES, PTHREAD, SPAWN, SPAWN_CLEAR, WITHOUT_VFORK
from forklore.decode.creation import SIGCHLD, Creation

_MUSL_CLONE_ALIGNMENT: Final = 8
_DESCRIPTOR_LIMIT: Final = 1 << 14
_PAGE: Final = 4096


class Fingerprint(Struct, frozen=True):
    """Who makes such a call."""

    call: str
    """The library function, the innermost one where several call each other: ``posix_spawn`` for popen, too. The
    likeliest where several fit; empty where only ``library`` is known."""
    library: str
    """``glibc``, ``musl``, ``Go``, or a program's name; the likeliest where several fit."""
    sure: bool
    """No other library function or tool that is known here makes such a call."""
    why: str
    """What tells it and, where it is not sure, who else it can be."""


class _Form(Struct, frozen=True):
    """A call of one library: what it looks like, and what more has to hold."""

    made: Fingerprint
    call: str
    flags: int
    exit_signal: int
    stack: bool | None = None
    """Whether it names one; None: either."""
    arches: frozenset[Arch] | None = None
    holds: Callable[[Creation], bool] | None = None


def _descriptor(creation: Creation) -> bool:
    # The thread's number lies in its descriptor, and so does, or near it, what the thread pointer points to.
    if creation.arch is Arch.I386:  # tls is the address of a struct user_desc
        return True
    tid, tls = creation.parent_tid, creation.tls
    return tid is None or tls is None or abs(tid - tls) < _DESCRIPTOR_LIMIT


def _glibc_thread(creation: Creation) -> bool:
    # glibc passes all fields of its clone_args, and the address of the tid as pidfd although it asks for none
    # (nptl/pthread_create.c: create_thread).
    return creation.struct_size == VER2 and creation.words.pidfd == creation.words.parent_tid and _descriptor(creation)


def _musl_stack(creation: Creation) -> bool:
    # src/thread/x86_64/clone.s aligns to 16 and pushes one word; glibc's pushes two.
    return creation.arch is Arch.X86_64 and creation.stack is not None and creation.stack % 16 == _MUSL_CLONE_ALIGNMENT


def _glibc_stack(creation: Creation) -> bool:
    # sysdeps/unix/sysv/linux/spawni.c maps whole pages, and clone.S pushes function and argument.
    return creation.arch is Arch.X86_64 and creation.stack is not None and creation.stack % _PAGE == _PAGE - 16


def _sure(call: str, library: str, why: str) -> Fingerprint:
    return Fingerprint(call, library, sure=True, why=why)


def _likely(call: str, library: str, why: str) -> Fingerprint:
    return Fingerprint(call, library, sure=False, why=why)


_PTHREAD_CLONE3: Final = _sure(
    "pthread_create", "glibc", "clone3 with glibc's flags for threads and its whole clone_args: 2.34 and later"
)
_PTHREAD_CLONE: Final = _sure(
    "pthread_create", "glibc", "clone with glibc's flags for threads: before 2.34, or where clone3 is refused"
)
_FORK: Final = _sure("fork", "glibc", "clone as glibc's fork() makes it; _Fork() makes the same call")
_MUSL_SPAWN: Final = _sure(
    "posix_spawn", "musl", "CLONE_VM|CLONE_VFORK on a stack that musl's clone() prepared"
)
_OLD_SPAWN: Final = _sure(
    "posix_spawn", "glibc", "CLONE_VM|CLONE_VFORK on a mapped stack: 2.24 to 2.33, or where clone3 is refused"
)
_SPAWN_BY_CLONE: Final = _likely(
    "posix_spawn", "glibc", "CLONE_VM|CLONE_VFORK with a stack: glibc's posix_spawn() of 2.24 to 2.33, or where clone3 "
    "is refused, or musl's"
)  # fmt: skip
_VFORK_ON_STACK: Final = _likely(
    "vfork", "glibc", "CLONE_VM|CLONE_VFORK with a stack, as glibc's vfork() makes it on this arch, and posix_spawn()"
)
_VFORK_WITHOUT: Final = _likely(
    "vfork", "musl", "CLONE_VM|CLONE_VFORK, as musl's vfork() makes it on this arch, and Go's os/exec before 1.23"
)
_GO_THREAD: Final = _sure("runtime.newosproc", "Go", "clone with the Go runtime's flags for threads")
_GO_EXEC: Final = _sure("syscall.forkExec", "Go", "CLONE_VM|CLONE_VFORK|CLONE_PIDFD on the caller's stack: os/exec")
_GO_EXEC_OLD: Final = _likely(
    "syscall.forkExec", "Go", "clone with CLONE_VM|CLONE_VFORK on the caller's stack, as Go's os/exec makes it without "
    "pidfds; a vfork by hand looks the same"
)  # fmt: skip


def _forms() -> tuple[_Form, ...]:
    spawn_clear = "clone3 with CLONE_CLEAR_SIGHAND, as posix_spawn() makes it: 2.38 and later"
    spawn = _sure("posix_spawn", "glibc", spawn_clear)
    spawn_34 = _sure("posix_spawn", "glibc", "clone3 as posix_spawn() makes it: 2.34 to 2.37")
    into_cgroup = _sure("posix_spawn", "glibc", f"{spawn_clear}, into a cgroup: 2.39 and later")
    pidfd = _sure("pidfd_spawn", "glibc", "clone3 as pidfd_spawn() makes it: 2.39 and later")
    probe = _sure("os.checkPidfd", "Go", "CLONE_VM|CLONE_VFORK|CLONE_PIDFD without exit signal: its test for pidfds")
    musl_thread = _sure("pthread_create", "musl", "CLONE_DETACHED, which musl alone still sets for a thread")
    system = _sure("system", "glibc", "CLONE_PARENT_SETTID alone: 2.28 and before")
    nsexec = _likely("", "runc", "CLONE_PARENT with a stack: runc's nsexec makes a sibling so")
    musl_fork = _likely("fork", "musl", "clone with an exit signal alone, as musl's fork() makes it on this arch; a "
                        "fork by hand looks the same")  # fmt: skip
    return (
        _Form(_FORK, "clone", f.CLONE_CHILD_CLEARTID | f.CLONE_CHILD_SETTID, SIGCHLD, stack=False),
        _Form(_PTHREAD_CLONE3, "clone3", PTHREAD, 0, stack=True, holds=_glibc_thread),
        _Form(_PTHREAD_CLONE, "clone", PTHREAD, 0, stack=True, holds=_descriptor),
        _Form(musl_thread, "clone", PTHREAD | f.CLONE_DETACHED, 0, stack=True),
        _Form(_GO_THREAD, "clone", GO_THREAD | f.CLONE_SETTLS, 0, stack=True),
        _Form(_GO_THREAD, "clone", GO_THREAD, 0, stack=True),
        _Form(spawn, "clone3", SPAWN_CLEAR, SIGCHLD, stack=True),
        _Form(spawn_34, "clone3", SPAWN, SIGCHLD, stack=True),
        _Form(into_cgroup, "clone3", SPAWN_CLEAR | f.CLONE_INTO_CGROUP, SIGCHLD, stack=True),
        _Form(pidfd, "clone3", SPAWN_CLEAR | f.CLONE_PIDFD, SIGCHLD, stack=True),
        _Form(pidfd, "clone3", SPAWN_CLEAR | f.CLONE_PIDFD | f.CLONE_INTO_CGROUP, SIGCHLD, stack=True),
        _Form(_MUSL_SPAWN, "clone", SPAWN, SIGCHLD, stack=True, holds=_musl_stack),
        _Form(_OLD_SPAWN, "clone", SPAWN, SIGCHLD, stack=True, holds=_glibc_stack),
        _Form(_VFORK_ON_STACK, "clone", SPAWN, SIGCHLD, stack=True, arches=WITHOUT_VFORK),
        _Form(_SPAWN_BY_CLONE, "clone", SPAWN, SIGCHLD, stack=True),
        _Form(_VFORK_WITHOUT, "clone", SPAWN, SIGCHLD, stack=False, arches=WITHOUT_VFORK),
        _Form(_GO_EXEC_OLD, "clone", SPAWN, SIGCHLD, stack=False),
        _Form(_GO_EXEC, "clone", SPAWN | f.CLONE_PIDFD, SIGCHLD, stack=False),
        _Form(probe, "clone", SPAWN | f.CLONE_PIDFD, 0, stack=False),
        _Form(system, "clone", f.CLONE_PARENT_SETTID, SIGCHLD, stack=False),
        _Form(nsexec, "clone", f.CLONE_PARENT, SIGCHLD, stack=True),
        _Form(musl_fork, "clone", 0, SIGCHLD, stack=False, arches=WITHOUT_VFORK),
    )


_FORMS: Final = _forms()
"""The first that fits is the one: a form that is told by more comes before one that is told by less."""

_RAW_FORK: Final = _likely("fork", "musl", "fork(2): musl's fork(), or one by hand; glibc's fork() calls clone")
_RAW_VFORK: Final = _likely("vfork", "", "vfork(2): any C library's vfork()")
_CGROUP: Final = _likely("", "crun, runc or systemd", "clone3 into a cgroup, as container tools and systemd make it")
_SANDBOX: Final = _likely(
    "", "bubblewrap, crun or systemd", "clone into new namespaces on the caller's stack, as sandboxes make it"
)


def fingerprint(creation: Creation) -> Fingerprint | None:
    """Who makes such a call; None for a form that is nobody's, or that is not known well enough.

    Looks at the call, its flags, exit signal and stack, and for threads at where the thread's number and thread
    pointer lie. Sources: glibc nptl/pthread_create.c, sysdeps/unix/sysv/linux/spawni.c, arch-fork.h; musl
    src/thread/pthread_create.c, src/process/posix_spawn.c; Go runtime/os_linux.go, syscall/exec_linux.go.
    """
    raw = creation.flags.raw
    if raw is None:
        return None
    for form in _FORMS:
        if _fits(form, creation, raw):
            return form.made
    return _loose(creation, raw)


def _loose(creation: Creation, raw: int) -> Fingerprint | None:
    if creation.call == "fork":
        return _RAW_FORK
    if creation.call == "vfork":
        return _RAW_VFORK
    if creation.call == "clone3" and raw & f.CLONE_INTO_CGROUP:
        return _CGROUP
    apart = raw & NAMESPACES and not raw & ~NAMESPACES
    if creation.call == "clone" and apart and not creation.stack and creation.exit_signal == SIGCHLD:
        return _SANDBOX
    return None


def _fits(form: _Form, creation: Creation, raw: int) -> bool:
    if creation.call != form.call or raw != form.flags or creation.exit_signal != form.exit_signal:
        return False
    if creation.words.stack is None and form.stack is not None:  # a log that does not tell
        return False
    if form.stack not in (None, bool(creation.stack)) or (form.arches and creation.arch not in form.arches):
        return False
    return form.holds is None or form.holds(creation)
