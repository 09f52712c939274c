"""Which library function makes exactly such a call: the one table of what a creation's form tells without a stack.

Libraries pass the same flags, exit signal and kind of stack every time, and few pass the same as another. Anybody can
make the same call by hand, so a form names who makes such calls, not who made this one.

Sources: glibc nptl/pthread_create.c, sysdeps/unix/sysv/linux/spawni.c, arch-fork.h, ARCH/clone.S and ARCH/vfork.S; musl
src/thread/pthread_create.c, src/process/posix_spawn.c, src/thread/ARCH/clone.s, src/process/ARCH/vfork.s; Go
runtime/os_linux.go, syscall/exec_linux.go. The stacks were seen in calls of glibc 2.31 to 2.43 and musl 1.2.2 to 1.2.6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from forklore.abi import flags as f
from forklore.abi.arch import Arch
from forklore.abi.clone_args import VER2
from forklore.decode.creation import SIGCHLD, CallName, Creation, Kind

_GO_THREAD: Final = f.CLONE_VM | f.CLONE_FS | f.CLONE_FILES | f.CLONE_SIGHAND | f.CLONE_THREAD | f.CLONE_SYSVSEM
_PTHREAD: Final = _GO_THREAD | f.CLONE_SETTLS | f.CLONE_PARENT_SETTID | f.CLONE_CHILD_CLEARTID
_SPAWN: Final = f.CLONE_VM | f.CLONE_VFORK
_SPAWN_CLEAR: Final = _SPAWN | f.CLONE_CLEAR_SIGHAND
_NAMESPACES: Final = f.SETNS.mask & f.CLONE.mask
WITHOUT_VFORK: Final = frozenset({Arch.AARCH64, Arch.RISCV64})
"""Arches whose system call table has neither fork nor vfork."""

_DESCRIPTOR_LIMIT: Final = 1 << 14
_PAGE: Final = 4096
_ALIGNED: Final = 16
_GLIBC_BELOW: Final = {Arch.X86_64: 16, Arch.X32: 16, Arch.I386: 28, Arch.AARCH64: 0, Arch.RISCV64: 16}
"""How far below the stack that it is given glibc's clone() begins the child's: function and argument lie there."""
_MUSL_BELOW: Final = {Arch.X86_64: 8, Arch.X32: 8, Arch.I386: 16, Arch.AARCH64: 16, Arch.RISCV64: 16}
"""The same of musl's clone(), which aligns the stack before that."""

THREAD_CALLS: Final = frozenset({
    "pthread_create", "thrd_create", "timer_create", "mq_notify", "getaddrinfo_a", "aio_read", "aio_write", "aio_fsync",
    "lio_listio",
})  # fmt: skip
"""Library calls that make a thread, if they make a task."""
PROCESS_CALLS: Final = frozenset({
    "fork", "_Fork", "vfork", "posix_spawn", "posix_spawnp", "pidfd_spawn", "pidfd_spawnp", "system", "popen",
    "wordexp", "forkpty", "daemon",
})  # fmt: skip
"""Library calls that make a process, if they make a task."""


def kind_made_by(library: str | None) -> Kind:
    """The kind of what a library call makes; ``task`` where the call can make either, or is not known."""
    return "thread" if library in THREAD_CALLS else "process" if library in PROCESS_CALLS else "task"


Fits = Callable[[Creation], bool | None]


class LibraryForm(Struct, frozen=True, kw_only=True, eq=False):
    """The form of one library's call. What is None does not matter."""

    library: str = ""
    """``glibc``, ``musl``, ``Go``, or a program's name; empty where only ``call`` is known."""
    call: str = ""
    """The library function, the innermost one where several call each other: ``posix_spawn`` for popen, too; empty
    where only ``library`` is known."""
    name: str
    """Everybody who makes the call, as people are told."""
    when: str = ""
    """In which versions, or in what case."""
    tells: str
    """What tells it."""
    by_hand: bool = False
    """The call is so plain that programs make it by themselves."""
    system_call: CallName | None = None
    flags: int | None = None
    exit_signal: int | None = None
    stack: bool | None = None
    """Whether the call names one."""
    arches: frozenset[Arch] | None = None
    holds: Fits | None = None
    """What more has to hold; its answer is None where the words that it looks at are not told."""

    @property
    def who(self) -> str:
        """Who makes the call, and when."""
        return f"{self.name}, {self.when}" if self.when else self.name

    @property
    def why(self) -> str:
        """What tells it, and when."""
        return f"{self.tells}: {self.when}" if self.when else self.tells

    def fits(self, creation: Creation) -> bool | None:
        """Whether a call has this form; None where it can have it and not all is told, as in some logs."""
        if self.system_call not in (None, creation.call) or self.flags not in (None, creation.flags.raw):
            return False
        if self.exit_signal not in (None, creation.exit_signal):
            return False
        if self.arches is not None and creation.arch not in self.arches:
            return False
        if self.stack is not None:
            if creation.words.stack is None:
                return None
            if self.stack is not bool(creation.stack):
                return False
        return True if self.holds is None else self.holds(creation)


class Fingerprint(Struct, frozen=True):
    """Who makes such a call."""

    call: str
    """As in :class:`LibraryForm`; of the likeliest where several fit."""
    library: str
    """The same."""
    sure: bool
    """No other library function or tool that is known here makes such a call."""
    why: str
    """What tells it and, where it is not sure, who else it can be."""


def _descriptor(creation: Creation) -> bool:
    # The thread's number lies in its descriptor, and so does, or near it, what the thread pointer points to.
    if creation.arch is Arch.I386:  # tls is the address of a struct user_desc
        return True
    tid, tls = creation.parent_tid, creation.tls
    return tid is None or tls is None or abs(tid - tls) < _DESCRIPTOR_LIMIT


def _glibc_thread(creation: Creation) -> bool | None:
    # glibc passes all fields of its clone_args, and the address of the tid as pidfd although it asks for none
    # (nptl/pthread_create.c: create_thread).
    if creation.struct_size is None:
        return None
    return creation.struct_size == VER2 and creation.words.pidfd == creation.words.parent_tid and _descriptor(creation)


def _glibc_stack(creation: Creation) -> bool:
    # spawni.c maps whole pages and gives clone() their end.
    return ((creation.stack or 0) + _GLIBC_BELOW[creation.arch]) % _PAGE == 0


def _musl_stack(creation: Creation) -> bool:
    # posix_spawn.c gives clone() the end of an array in its own frame.
    return ((creation.stack or 0) + _MUSL_BELOW[creation.arch]) % _ALIGNED == 0


def _only_namespaces(creation: Creation) -> bool:
    raw = creation.flags.raw or 0
    return not creation.stack and bool(raw) and not raw & ~_NAMESPACES


def _names_stack(*, no: Arch, yes: Arch) -> Fits:
    """Whether the call names a stack, where that differs from arch to arch."""

    def holds(creation: Creation) -> bool | None:
        if creation.words.stack is None:
            return None
        return creation.arch is (yes if creation.stack else no)

    return holds


GLIBC_FORK: Final = LibraryForm(
    library="glibc", call="fork", name="glibc fork() or _Fork()",
    tells="clone as glibc's fork() makes it; _Fork() makes the same call",
    system_call="clone", flags=f.CLONE_CHILD_CLEARTID | f.CLONE_CHILD_SETTID, exit_signal=SIGCHLD, stack=False,
)  # fmt: skip
GLIBC_THREAD: Final = LibraryForm(
    library="glibc", call="pthread_create", name="glibc pthread_create()", when="2.34 and later",
    tells="clone3 with glibc's flags for threads and its whole clone_args",
    system_call="clone3", flags=_PTHREAD, exit_signal=0, stack=True, holds=_glibc_thread,
)  # fmt: skip
MUSL_THREAD: Final = LibraryForm(
    library="musl", call="pthread_create", name="musl pthread_create()",
    tells="CLONE_DETACHED, which musl alone still sets for a thread",
    system_call="clone", flags=_PTHREAD | f.CLONE_DETACHED, exit_signal=0, stack=True,
)  # fmt: skip
GO_THREAD: Final = LibraryForm(
    library="Go", call="runtime.newosproc", name="a thread of the Go runtime",
    tells="clone with the Go runtime's flags for threads",
    system_call="clone", flags=_GO_THREAD | f.CLONE_SETTLS, exit_signal=0, stack=True,
)  # fmt: skip
GLIBC_SPAWN: Final = LibraryForm(
    library="glibc", call="posix_spawn", name="glibc posix_spawn(), system() or popen()", when="2.38 and later",
    tells="clone3 with CLONE_CLEAR_SIGHAND, as posix_spawn() makes it",
    system_call="clone3", flags=_SPAWN_CLEAR, exit_signal=SIGCHLD, stack=True,
)  # fmt: skip
GO_EXEC: Final = LibraryForm(
    library="Go", call="syscall.forkExec", name="Go os/exec, with a pidfd",
    tells="CLONE_VM|CLONE_VFORK|CLONE_PIDFD on the caller's stack: os/exec",
    system_call="clone", flags=_SPAWN | f.CLONE_PIDFD, exit_signal=SIGCHLD, stack=False,
)  # fmt: skip
VFORK: Final = LibraryForm(
    call="vfork", name="vfork()", tells="vfork(2): any C library's vfork()", by_hand=True,
    system_call="vfork", flags=_SPAWN, exit_signal=SIGCHLD,
)  # fmt: skip

FORMS: Final = (
    GLIBC_FORK,
    GLIBC_THREAD,
    LibraryForm(
        library="glibc", call="pthread_create", name="glibc pthread_create()",
        when="before 2.34, or where clone3 is refused", tells="clone with glibc's flags for threads",
        system_call="clone", flags=_PTHREAD, exit_signal=0, stack=True, holds=_descriptor,
    ),
    MUSL_THREAD,
    GO_THREAD,
    LibraryForm(  # where the new thread sets its thread pointer itself
        library="Go", call="runtime.newosproc", name="a thread of the Go runtime",
        tells="clone with the Go runtime's flags for threads",
        system_call="clone", flags=_GO_THREAD, exit_signal=0, stack=True,
    ),
    GLIBC_SPAWN,
    LibraryForm(
        library="glibc", call="posix_spawn", name="glibc posix_spawn(), system() or popen()", when="2.34 to 2.37",
        tells="clone3 as posix_spawn() makes it",
        system_call="clone3", flags=_SPAWN, exit_signal=SIGCHLD, stack=True,
    ),
    LibraryForm(
        library="glibc", call="pidfd_spawn", name="glibc pidfd_spawn()", when="2.39 and later",
        tells="clone3 as pidfd_spawn() makes it",
        system_call="clone3", flags=_SPAWN_CLEAR | f.CLONE_PIDFD, exit_signal=SIGCHLD, stack=True,
    ),
    LibraryForm(
        library="glibc", call="posix_spawn", name="glibc posix_spawn() into a cgroup", when="2.39 and later",
        tells="clone3 with CLONE_CLEAR_SIGHAND, as posix_spawn() makes it, into a cgroup",
        system_call="clone3", flags=_SPAWN_CLEAR | f.CLONE_INTO_CGROUP, exit_signal=SIGCHLD, stack=True,
    ),
    LibraryForm(
        library="glibc", call="pidfd_spawn", name="glibc pidfd_spawn() into a cgroup", when="2.39 and later",
        tells="clone3 as pidfd_spawn() makes it",
        system_call="clone3", flags=_SPAWN_CLEAR | f.CLONE_PIDFD | f.CLONE_INTO_CGROUP, exit_signal=SIGCHLD, stack=True,
    ),
    # x86 and x32: the end of the child's stack tells the two apart. aarch64 and riscv64: musl's, and that of a vfork,
    # can end as glibc's mapped one does, once in 256 times.
    LibraryForm(
        library="glibc", call="posix_spawn", name="glibc posix_spawn()",
        when="2.24 to 2.33, or where clone3 is refused", tells="CLONE_VM|CLONE_VFORK on a mapped stack",
        system_call="clone", flags=_SPAWN, exit_signal=SIGCHLD, stack=True, holds=_glibc_stack,
    ),
    LibraryForm(
        library="glibc", call="vfork", name="glibc vfork(), which is a clone on this arch",
        tells="CLONE_VM|CLONE_VFORK with a stack, as glibc's vfork() makes it on this arch",
        system_call="clone", flags=_SPAWN, exit_signal=SIGCHLD, stack=True, arches=WITHOUT_VFORK,
    ),
    LibraryForm(
        library="musl", call="posix_spawn", name="musl posix_spawn(), system() or popen()",
        tells="CLONE_VM|CLONE_VFORK on a stack that musl's clone() prepared",
        system_call="clone", flags=_SPAWN, exit_signal=SIGCHLD, stack=True, holds=_musl_stack,
    ),
    LibraryForm(
        library="musl", call="vfork", name="musl vfork(), which is a clone on this arch",
        tells="CLONE_VM|CLONE_VFORK, as musl's vfork() makes it on this arch",
        system_call="clone", flags=_SPAWN, exit_signal=SIGCHLD, arches=WITHOUT_VFORK,
        holds=_names_stack(no=Arch.AARCH64, yes=Arch.RISCV64),
    ),
    LibraryForm(
        library="Go", call="syscall.forkExec", name="Go os/exec, before it used pidfds", by_hand=True,
        tells="clone with CLONE_VM|CLONE_VFORK on the caller's stack, as Go's os/exec makes it without pidfds; a vfork "
        "by hand looks the same",
        system_call="clone", flags=_SPAWN, exit_signal=SIGCHLD, stack=False,
    ),
    GO_EXEC,
    LibraryForm(
        library="Go", call="os.checkPidfd", name="the Go runtime's test for pidfds, once a process",
        tells="CLONE_VM|CLONE_VFORK|CLONE_PIDFD without exit signal: its test for pidfds",
        system_call="clone", flags=_SPAWN | f.CLONE_PIDFD, exit_signal=0, stack=False,
    ),
    LibraryForm(
        library="glibc", call="system", name="glibc system()", when="2.28 and before",
        tells="CLONE_PARENT_SETTID alone",
        system_call="clone", flags=f.CLONE_PARENT_SETTID, exit_signal=SIGCHLD, stack=False,
    ),
    LibraryForm(
        library="runc", name="runc's nsexec", by_hand=True,
        tells="CLONE_PARENT with a stack: runc's nsexec makes a sibling so",
        system_call="clone", flags=f.CLONE_PARENT, exit_signal=SIGCHLD, stack=True,
    ),
    LibraryForm(
        library="musl", call="fork", name="musl fork(), which is a clone on this arch", by_hand=True,
        tells="clone with an exit signal alone, as musl's fork() makes it on this arch; a fork by hand looks the same",
        system_call="clone", flags=0, exit_signal=SIGCHLD, stack=False, arches=WITHOUT_VFORK,
    ),
    LibraryForm(
        library="musl", call="fork", name="fork(), of musl or by a raw system call", by_hand=True,
        tells="fork(2): musl's fork(), or one by hand; glibc's fork() calls clone",
        system_call="fork", flags=0, exit_signal=SIGCHLD,
    ),
    VFORK,
)  # fmt: skip
"""The calls that are known to the last flag. Of those that fit, the first is the likeliest."""

_LOOSE: Final = (
    LibraryForm(
        library="crun, runc or systemd", by_hand=True,
        name="a container tool (crun, runc exec) or systemd, which put the child in a cgroup",
        tells="clone3 into a cgroup, as container tools and systemd make it",
        system_call="clone3", holds=lambda creation: creation.flags.has(f.CLONE_INTO_CGROUP),
    ),
    LibraryForm(
        library="bubblewrap, crun or systemd", by_hand=True,
        name="a sandbox (bubblewrap, crun, systemd), which starts the child in new namespaces",
        tells="clone into new namespaces on the caller's stack, as sandboxes make it",
        system_call="clone", exit_signal=SIGCHLD,
        holds=_only_namespaces,
    ),
    LibraryForm(
        name="something that keeps its child from tracers (CLONE_UNTRACED)", by_hand=True,
        tells="CLONE_UNTRACED keeps the child from tracers",
        holds=lambda creation: creation.flags.has(f.CLONE_UNTRACED),
    ),
)  # fmt: skip
"""Habits rather than calls: the first that fits a call that none of :data:`FORMS` fits."""


def _by_flags() -> dict[tuple[CallName | None, int | None], list[LibraryForm]]:
    found: dict[tuple[CallName | None, int | None], list[LibraryForm]] = {}
    for form in FORMS:
        found.setdefault((form.system_call, form.flags), []).append(form)
    return found


_BY_FLAGS: Final = _by_flags()


def makers(creation: Creation) -> tuple[tuple[LibraryForm, bool], ...]:
    """The forms that a call has or can have, the likeliest first, and whether all is told that decides it.

    () for a form that is nobody's. What :func:`candidates` and :func:`fingerprint` say follows from this.
    """
    raw = creation.flags.raw
    if raw is None:
        return ()
    found = _fitting(_BY_FLAGS.get((creation.call, raw), ()), creation)
    return found or _fitting(_LOOSE, creation)[:1]


def _fitting(forms: Sequence[LibraryForm], creation: Creation) -> tuple[tuple[LibraryForm, bool], ...]:
    answers = ((form, form.fits(creation)) for form in forms)
    return tuple((form, fits is True) for form, fits in answers if fits is not False)


FLAGS: Final = frozenset(form.flags for form in FORMS if form.flags is not None)
"""Flags words that some library's call has, the exit signal apart."""


def candidates(creation: Creation) -> tuple[str, ...]:
    """Everybody who makes such a call, such as ``glibc fork() or _Fork()``, the likeliest first; () for nobody."""
    return tuple(dict.fromkeys(form.who for form, _ in makers(creation)))


def fingerprint(creation: Creation) -> Fingerprint | None:
    """Who makes such a call; None for a form that is nobody's, or that is not told whole."""
    found = [form for form, told in makers(creation) if told and (form.library or form.call)]
    if not found:
        return None
    first, *others = found
    why = "; or ".join([first.why, *(other.who for other in others)])
    return Fingerprint(first.call, first.library, sure=not others and not first.by_hand, why=why)
