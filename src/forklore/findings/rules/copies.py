"""What a child copies of its creator and should not: locks of other threads, a thread descriptor, a large memory."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Final

from forklore.abi.flags import CLONE_SETTLS, CLONE_VFORK, CLONE_VM
from forklore.abi.text import printable
from forklore.abi.units import Nanoseconds
from forklore.events.records import raw_bytes
from forklore.findings.finding import Finding
from forklore.findings.rule import Rule
from forklore.findings.subject import Subject
from forklore.findings.told import CALL_TIMES, FLAGS, STACKS, TIMES
from forklore.model.tasks import Task
from forklore.report.tree.edges import own_name
from forklore.report.words import words

SOON: Final = 500_000_000
"""In ns: an exec that comes later is not what the child was made for alone."""
_ENDING: Final = 100_000_000
"""In ns: threads that were joined have ended by then, on a busy machine too."""
_COSTLY: Final = 5_000_000
"""In ns: a fork that took longer than this copied much."""
_LARGE: Final = 100 << 10
"""In KiB: what a fork of a smaller process took was not for its memory."""
_NAMED: Final = 3
"""Names of threads that a sentence has."""


def _flags(task: Task) -> int | None:
    return None if task.form is None else task.form.flags


def executes_soon(task: Task) -> bool:
    """Whether a child was made to execute another program, as far as times tell."""
    if not task.images and task.failed_execs:
        return True  # and was refused
    after = task.exec_after
    return bool(task.images) and (after is None or after <= SOON)


def _with_threads(subject: Subject) -> Iterator[Finding]:
    for task in subject.processes:
        creator, flags = subject.creator(task), _flags(task)
        if creator is None or flags is None or flags & CLONE_VM or task.created is None or executes_soon(task):
            continue
        others = [each for each in subject.beside(creator, task.created) if not _was_joined(task, each)]
        if not others:
            continue
        names = list(dict.fromkeys(filter(None, map(own_name, others))))
        named = f" ({', '.join(names)})" if 0 < len(names) <= _NAMED else ""
        ran = "" if task.images == () else f" before it executed {printable(subject.program_at(task, None))}"
        lived = task.exec_after if task.images else task.lifetime
        span = f" and ran for {words.span(lived)}{ran}" if lived is not None else " and executed nothing"
        text = (
            f"{subject.who_was(task, task.created)} was forked by {subject.in_words(task)} while"
            f" {words.count(len(others), 'other thread')} of {words.tid(creator.tgid or creator.tid)}{named} ran,{span}"
        )
        yield Finding(
            rule="fork-with-threads",
            severity="warning",
            text=text,
            tasks=(task.id, creator.id, *(each.id for each in others)),
            t=task.created,
            where=subject.where(task),
            program=subject.program(creator, task.created),
            advice=_for_language(task),
        )


def _was_joined(task: Task, thread: Task) -> bool:
    """Whether a thread ended so soon after a fork that it may have been joined before: pthread_join() returns when the
    kernel lets go of the thread's memory (kernel/fork.c: mm_release), Python's join() up to 3.12 when the thread is
    through with the interpreter, and both are before its end. One that ends after the child was perhaps told to when
    the child had been waited for."""
    if thread.ended is None or task.created is None:
        return False
    return thread.ended - task.created <= _ENDING and (task.ended is None or thread.ended < task.ended)


def _for_language(task: Task) -> str:
    if task.script is not None and task.script.language.startswith("CPython"):
        return (
            "use multiprocessing's spawn or forkserver (multiprocessing.set_start_method), or subprocess; or fork"
            " before threads are started"
        )
    return ""


_LIBCS: Final = (b"libc.so.6", b"libc.so")
_RAW: Final = frozenset({(), ("syscall",), ("clone",)})


def _stale_descriptor(subject: Subject) -> Iterator[Finding]:
    modules = subject.trace.code.modules.values()
    libc = next((name for module in modules if _is_libc(name := raw_bytes(module.path))), None)
    if libc is None:
        return  # a program without a C library, as Go's, has no such descriptor
    for task in subject.processes:
        creator, flags, creation = subject.creator(task), _flags(task), task.creation
        if creator is None or flags is None or creation is None or creation.call not in ("clone", "clone3", "fork"):
            continue
        if flags & (CLONE_SETTLS | CLONE_VFORK) or creation.child_tid is not None or task.images:
            continue  # with a descriptor of its own, or its tid stored where fork() stores it
        chain = subject.chain(task)
        if chain not in _RAW or task.stack is None or not any(_is_libc(f.place.path) for f in task.stack.frames):
            continue
        made = printable(creation.call) if not chain else f"{chain[0]}()"
        text = (
            f"{subject.who(task)} was made by {made}, past the C library's fork(), and executed nothing: what the"
            f" library has for its thread still says {words.tid(creator.tid)}"
        )
        lived = task.lifetime
        yield Finding(
            rule="stale-thread-descriptor",
            severity="note" if lived is not None and lived <= SOON and not task.children else "warning",
            text=text,
            tasks=(task.id, creator.id),
            t=task.created,
            where=subject.where(task),
            program=subject.program(creator, task.created),
        )


def _is_libc(path: bytes) -> bool:
    name = path.rpartition(b"/")[2]
    return name in _LIBCS or name.startswith((b"ld-musl-", b"libc-2."))


def _costly(subject: Subject) -> Iterator[Finding]:
    sharing = [_took(task) for task in subject.processes if (_flags(task) or 0) & CLONE_VM]
    for task in subject.processes:
        took, flags = _took(task), _flags(task)
        if took < _COSTLY or flags is None or flags & CLONE_VM or not task.images or not executes_soon(task):
            continue
        creator = subject.creator(task)
        if creator is None or (creator.peak or 0) < _LARGE:
            continue
        peak = f", whose process had up to {words.size((creator.peak or 0) << 10)} resident,"
        text = (
            f"{subject.in_words(task)} of {subject.who_was(creator, task.created)}{peak} took {words.span(took)} for a"
            f" child that only executes {printable(subject.program_at(task, None))}; {_spawning(sharing)}"
        )
        yield Finding(
            rule="costly-fork",
            severity="note",
            text=text,
            tasks=(task.id, creator.id),
            t=task.created,
            where=subject.where(task),
            program=subject.program(creator, task.created),
        )


def _spawning(took: list[Nanoseconds]) -> str:
    """What the same takes without a copy, by the calls of the trace that share memory."""
    if not took:
        return "what posix_spawn would take is not known, for no call here shares memory"
    middle = words.span(int(median(took))) if median(took) else "less than 1 ms"
    return f"calls that share memory, as posix_spawn's, took {middle} here"


def _took(task: Task) -> Nanoseconds:
    """For how long its creator was in the call; 0 for less than 1 ms."""
    return Nanoseconds(0 if task.record is None else task.record.took)


RULES: Final = (
    Rule(
        id="fork-with-threads",
        severity="warning",
        title="a process with several threads was forked, and the child executed nothing soon",
        about=(
            "The child has one thread and a copy of all memory: a lock that another thread held at that moment (of"
            " malloc, stdio, logging, an own one) stays locked for ever in the child. POSIX allows it to call only what"
            " is async-signal-safe before it executes a program. Found where it executed none within 500 ms."
        ),
        right=(
            "A child that executes at once (posix_spawn, vfork, fork and exec), or tries to. A fork of a process whose"
            " other threads have ended, or end within 100 ms and before the child: threads that were joined are there"
            " for a moment longer. Children that share the memory (CLONE_VM)."
        ),
        advice="fork before threads are started, or call posix_spawn, or let the child do no more than execute",
        find=_with_threads,
        needs=(TIMES,),
        helps=(FLAGS, STACKS),
    ),
    Rule(
        id="stale-thread-descriptor",
        severity="warning",
        title="a child of a raw clone runs with its creator's thread descriptor",
        about=(
            "fork() of a C library tells the child's thread descriptor its own tid and runs pthread_atfork's handlers."
            " A clone by syscall() or clone() without CLONE_SETTLS does neither: raise(), abort(), recursive and"
            " error-checking mutexes then act on the creator's tid (glibc nptl: struct pthread's tid). A note where the"
            " child ended within 500 ms and made nothing."
        ),
        right=(
            "fork(), vfork() and posix_spawn(); a clone with CLONE_SETTLS or CLONE_CHILD_SETTID; a child that executes"
            " a program; programs without a C library, as Go's."
        ),
        advice="call fork() or _Fork(), or let the child do no more than execute or _exit()",
        find=_stale_descriptor,
        needs=(STACKS,),
    ),
    Rule(
        id="costly-fork",
        severity="note",
        title="a large memory was copied for a child that only executes",
        about=(
            "fork copies the page tables of all memory, and the first writes after it copy pages. posix_spawn and vfork"
            " share the memory until the exec and take the same time whatever its size. Found where the call took 5 ms"
            " or more, the process had 100 MB resident and the child executed within 500 ms."
        ),
        right="A fork of a small process; posix_spawn and vfork; a child that goes on without an exec.",
        advice="call posix_spawn; in Python subprocess with close_fds=False and no preexec_fn, or os.posix_spawn",
        find=_costly,
        needs=(CALL_TIMES,),
    ),
)
