"""Words that people ask about and that are no call of today's Linux: history, other systems, and what goes with them.

Where a version stands it is the manual's, or the sentence says that it is not verified.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from forklore.abi import flags as f
from forklore.abi.former_flags import FORMER, MACROS, Former
from forklore.decode.task_states import MARKS, STATES


class Term(Struct, frozen=True):
    """A word with what there is to say: ``title`` in a line, ``text`` in paragraphs, ``rows`` a table under it."""

    name: str
    title: str
    text: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()
    """The first is its head."""


_SOLARIS: Final = "Solaris and illumos, fork(2)"
_ALL_THREADS: Final = (
    ("The child gets a copy of every thread of the caller, each in the middle of what it was doing, but for those in "
    "an interruptible call, which returns EINTR."),
    ("Linux has nothing like it: a child has the calling thread alone, and locks that other threads held stay locked. "
    "What has to go on in the child is begun there anew (pthread_atfork(3))."),
)
_ONE_THREAD: Final = "The child has one thread, the one that called: as fork() on Linux, and there since Solaris 10."
_FORK_FLAGS: Final = {
    0x1: ("FORK_NOSIGCHLD", ("No SIGCHLD when the child ends. Linux: clone with exit signal 0, and then a wait with "
                            "__WCLONE or __WALL.")),
    0x2: ("FORK_WAITPID", ("Only a wait for this very child finds it, and it is not reaped by itself where SIGCHLD is "
                          "ignored. Linux has no such flag; a wait by pidfd (waitid with P_PIDFD) is the nearest, and "
                          "a child with exit signal 0 is left out of plain waits.")),
}  # fmt: skip

FIELDS: Final = (
    ("clone", "clone3", ""),
    ("flags, bits 8 to 31", "flags", "clone3 has 64 bits, and CLONE_NEWTIME at 0x80"),
    ("flags, low byte", "exit_signal", "a field of its own"),
    ("stack", "stack, stack_size", "clone: its end, from which it grows down; clone3: its lowest address and length"),
    ("parent_tid", "parent_tid", "with CLONE_PARENT_SETTID"),
    ("parent_tid", "pidfd", "with CLONE_PIDFD: clone has one pointer for both, and so cannot do both"),
    ("child_tid", "child_tid", "with CLONE_CHILD_SETTID, CLONE_CHILD_CLEARTID"),
    ("tls", "tls", "with CLONE_SETTLS; on i386 the address of a struct user_desc"),
    ("-", "set_tid, set_tid_size", "the wanted pids, innermost first (5.5)"),
    ("-", "cgroup", "with CLONE_INTO_CGROUP: a directory's descriptor (5.7)"),
    ("order by arch", "one struct", "x86_64: ptid, ctid, tls; i386, aarch64 and riscv64: ptid, tls, ctid"),
)
"""Which argument of clone(2) is which field of clone3's struct."""

VFORK_RULES: Final = (
    "The child borrows the caller's memory and its stack until it executes a program or ends.",
    "It may call _exit or a function of the exec family, and change the variable that holds vfork's result.",
    "It must not return from the function that called vfork, nor call exit, which runs the caller's handlers.",
    "Whatever else it writes is the caller's: a call to any other function is undefined by POSIX (vfork(2)).",
    "The calling thread alone sleeps, deaf to all signals but SIGKILL; other threads run on and see what is written.",
    "Signal handlers run in the child on the caller's memory: block signals before.",
)
"""How a child of vfork has to behave."""

_TERMS: Final = (
    Term("exec", "a family of functions, by one call: execve(2)", (
        ("execl, execlp, execle, execv, execvp, execvpe and fexecve end in execve or execveat. No task is made: the "
        "process runs another program under its own pid."),
        ("Ended by it: its other threads (a thread that calls it takes the leader's pid), shared memory, signal "
        "handlers (ignored signals stay ignored), a shared descriptor table (which becomes private), descriptors "
        "marked close-on-exec, POSIX timers, AIO contexts and what is outstanding in them, the alternate signal "
        "stack; the exit signal becomes SIGCHLD; a pending time namespace is entered (since 6.2)."),
        ("Kept: pid, parent, session and terminal, root and working directory even if shared by CLONE_FS, open "
        "descriptors, System V undo values, namespaces, cgroup, blocked and pending signals, limits, nice value and "
        "affinity, seccomp filters and no_new_privs."),
    )),
    Term("do_fork", "the kernel's own function behind fork, vfork, clone and clone3", (
        ("do_fork up to Linux 4.1, _do_fork from 4.2 to 5.9 (neither number verified in the sources), kernel_clone "
        "since 5.10 (Linux kernel commit cad6967ac108, \"fork: introduce kernel_clone()\")."),
        ("It calls copy_process, which checks the flags and copies or shares each part, then wakes the child, tells a "
        "tracer, and waits for a CLONE_VFORK child."),
    )),
    Term("forkall", f"{_SOLARIS}: a child with all of the caller's threads", _ALL_THREADS),
    Term("fork1", f"{_SOLARIS}: a child with the calling thread alone", (
        _ONE_THREAD, "Linux: fork().")),
    Term("forkx", f"{_SOLARIS}: fork() with flags", (_ONE_THREAD, "Linux: fork(), or clone where a flag counts.")),
    Term("forkallx", f"{_SOLARIS}: forkall() with flags", _ALL_THREADS),
    Term("vforkx", f"{_SOLARIS}: vfork() with flags", (
        "The child borrows the caller's memory, and the caller sleeps.",
        "Linux: vfork(), or clone with CLONE_VM|CLONE_VFORK where a flag counts.")),
    Term("CSIGNAL", f"{f.CSIGNAL:#x}, the mask of the exit signal in clone's flags", (
        ("The low byte of clone's flags is the signal that the parent gets when the child ends. clone3 has a field for "
        "it (exit_signal), and its flags take of these bits CLONE_NEWTIME (0x80) alone."),
    )),
    Term("pid-cache", "the process id that glibc kept, up to 2.24", (
        ("From 2.3.4 to 2.24 getpid() answered from struct pthread. fork() and vfork() took care of it, and clone() "
        "set it in a child that shared no memory; a child made by syscall(SYS_clone, …) had its creator's pid."),
        ("glibc 2.25 asks the kernel each time. What is left is the thread's own tid in struct pthread: a child made "
        "by the raw call has its creator's, and recursive or error-checking mutexes take it for the owner. "
        "CLONE_CHILD_SETTID to that address, as fork() has it, avoids this."),
    )),
    Term("vfork-rules", "what the child of vfork may do", VFORK_RULES),
    Term("fields", "the arguments of clone and the fields of clone3", (), FIELDS),
    Term("aio", "asynchronous I/O contexts (io_setup(2), not io_uring)", (
        ("They belong to the memory: a child with CLONE_VM uses the caller's, any other begins with none, and nothing "
        "that was outstanding is its own. exec and the end of the last user of the memory destroy them "
        "(kernel/fork.c: mm_init; fs/aio.c: exit_aio)."),
    )),
    Term("states", "the letters of ps, and of state in /proc/PID/stat", (),
         (("letter", "a process that is or"), *STATES.items(), *MARKS.items())),
)  # fmt: skip

_ALIASES: Final = {
    **dict.fromkeys(
        ("execve", "execveat", "execl", "execlp", "execle", "execv", "execvp", "execvpe", "fexecve"), "exec"),
    **dict.fromkeys(("_do_fork", "kernel_clone"), "do_fork"),
    **dict.fromkeys(("pidcache", "pid_cache", "getpid-cache"), "pid-cache"),
    **dict.fromkeys(("clone_args", "struct clone_args"), "fields"),
    **dict.fromkeys(("io_setup", "aio_context", "kioctx"), "aio"),
    **dict.fromkeys(("stat", "state"), "states"),
}  # fmt: skip
_BY_NAME: Final = {term.name.lower(): term for term in _TERMS}
NAMES: Final = tuple(term.name for term in _TERMS)
_FLAGGED: Final = re.compile(r"(forkx|forkallx|vforkx)\s*(?:\(\s*([\w| ]*)\)|:\s*([\w|, ]+))?\Z")


def find(text: str) -> Term | None:
    """What is known of a word, in any case; None for any other word."""
    word = text.strip().removesuffix("()")
    name = word.lower()
    flagged = _FLAGGED.match(name)
    if flagged and (flagged[2] or flagged[3]):
        return _with_flags(_BY_NAME[flagged[1]], flagged[2] or flagged[3])
    known = _BY_NAME.get(_ALIASES.get(name, name))
    if known is not None:
        return _with_flags(known, "3") if flagged else known
    upper = name.upper() if name.startswith(("clone_", "fork_")) else f"CLONE_{name.upper()}"
    former = next((item for item in FORMER if item.name == upper), None)
    if former is not None and f.CLONE.by_name(upper) is None:
        return _former(former)
    if upper in MACROS:
        bits, whose = MACROS[upper]
        names = "|".join(flag.name for flag in f.CLONE.split(bits)[0])
        return Term(upper, f"{bits:#x}, {names}", (f"{whose[:1].upper()}{whose[1:]}.",))
    flag = next((item for item in _FORK_FLAGS.values() if item[0] == upper), None)
    return None if flag is None else Term(flag[0], f"a flag of {_SOLARIS}: forkx, forkallx, vforkx", flag[1:])


def former_text(former: Former) -> str:
    """A sentence: the name, the versions, the meaning."""
    doubt = "" if former.verified else " (the versions are not verified)"
    return f"{former.name}, from Linux {former.since} to before {former.until}{doubt}: {former.meaning}"


def _former(former: Former) -> Term:
    now = f.CLONE.by_name(next(flag.name for flag in f.CLONE.flags if flag.value == former.value))
    today = () if now is None else (f"Today the bit is {now.name}, since Linux {now.since}. {now.meaning}",)
    return Term(former.name, f"{former.value:#x}, a flag of clone that is gone", (former_text(former), *today))


def _with_flags(term: Term, given: str) -> Term:
    named = {name: bit for bit, (name, _) in _FORK_FLAGS.items()}
    bits = 0
    for part in filter(None, re.split(r"[|,\s]+", given.upper())):
        bits |= named.get(part, named.get(f"FORK_{part}", int(part, 0) if part.isdigit() else 0))
    rows = tuple((f"{name} ({bit:#x})", meaning) for bit, (name, meaning) in _FORK_FLAGS.items() if bits & bit)
    return Term(term.name, term.title, term.text, (("flag", "what it does, and what Linux has instead"), *rows))
